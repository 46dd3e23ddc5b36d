"""`modm serve` asked by packages that wrap OpenAI's: LangChain's DALL-E wrapper and litellm, unmodified.

    python wrappers.py BASE_URL     BASE_URL as the server prints it

The packages are those of requirements-wrappers.txt. The server has an alias for each of OpenAI's names, and draws its
usual size in place of others, since LangChain's wrapper always asks for a size of OpenAI's.
"""

import base64
import sys

import litellm
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

PROMPT = "a small red circle at the top left on white"
PNG = b"\x89PNG"


def with_litellm(base, **more):
    asked = {"prompt": PROMPT, "api_base": f"{base}/v1", "api_key": "none"} | more
    return litellm.image_generation(**asked).data


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    base = sys.argv[1].rstrip("/")
    (entry,) = with_litellm(base, model="openai/modm", size="1024x1024")
    assert base64.b64decode(entry.b64_json).startswith(PNG), "a picture in the answer"
    urls = [entry.url for entry in with_litellm(base, model="openai/dall-e-2", n=2)]
    assert len(set(urls)) == 2 and all(url.startswith(base) for url in urls), urls
    print("litellm                  in the answer, by URL", flush=True)
    for more in [{}, {"model": "dall-e-3", "quality": "hd", "n": 2}]:
        found = DallEAPIWrapper(base_url=f"{base}/v1", api_key="none", **more).run(PROMPT)
        assert found.startswith(base), found
    print("LangChain                as it is, two of a quality", flush=True)


if __name__ == "__main__":
    main()

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
    for more in [{"model": "openai/modm"}, {"model": "openai/dall-e-3", "size": "1024x1024", "quality": "hd"}]:
        (entry,) = with_litellm(base, **more)
        assert base64.b64decode(entry.b64_json).startswith(PNG), more
    urls = [entry.url for entry in with_litellm(base, model="openai/modm", n=2, response_format="url")]
    assert len(set(urls)) == 2 and all(url.startswith(base) for url in urls), urls
    print("litellm                  in answers, by URL, with OpenAI's keys", flush=True)
    for more in [{}, {"model": "modm", "size": "auto"}, {"model": "dall-e-3", "quality": "hd", "n": 2}]:
        found = DallEAPIWrapper(base_url=f"{base}/v1", api_key="none", **more).run(PROMPT)
        assert found.startswith(base), found
    print("LangChain                as it is, with the server's model, with OpenAI's keys", flush=True)


if __name__ == "__main__":
    main()

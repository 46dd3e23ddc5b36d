"""`modm serve` asked by OpenAI's own Python package, unmodified, and its jobs by httpx.

    python clients.py BASE_URL [KEY]     BASE_URL as the server prints it; KEY where it has keys

Draws some twenty pictures. Prompts are captions of the world of shapes: the models of models/shapes know no other.
The packages are those of requirements.txt; `scripts/check_clients` starts a server and runs this.
"""

import base64
import json
import random
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import openai

TIMEOUT_S = 120
TRIES = 12
# A cache with more than this may well hit whatever is asked.
NEARLY_EMPTY = 100
SIZES = ["small", "large"]
COLOURS = ["red", "yellow", "green", "cyan", "blue", "purple", "white", "black"]
SHAPES = ["circle", "square", "triangle", "cross", "ring", "star"]
PLACES = ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]
FINAL = {"completed", "failed", "cancelled"}
KEYS_OF_PICTURE = {
    *("id", "decision", "skipped_steps", "total_steps", "model", "similarity", "source"),
    *("queue_s", "denoise_s", "latency_s"),
}


def caption():
    """One of the 5,000 or so captions of one object."""
    own, background = random.sample(COLOURS, 2)
    size, shape, place = random.choice(SIZES), random.choice(SHAPES), random.choice(PLACES)
    return f"a {size} {own} {shape} at the {place} on a {background} background"


def png_size(png):
    """Width and height as the header of a PNG has them: "64x64"."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and png[12:16] == b"IHDR", png[:16]
    return "{}x{}".format(*struct.unpack(">II", png[16:24]))


class Server:
    def __init__(self, base, key):
        self.base, self.key = base, key
        # A server without keys asks for none, but the package wants one.
        self.openai = openai.OpenAI(base_url=f"{base}/v1", api_key=key or "none", max_retries=0, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S)
        self.status = self.get("/v1/status")
        self.size = self.status["size"]

    def get(self, path):
        answer = self.http.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def draw(self, **request):
        """The answer of one request, looked over, and its pictures."""
        answer = self.openai.images.generate(**request)
        entries = answer.to_dict()
        assert abs(answer.created - time.time()) < 600, answer.created
        assert answer.size == self.size and answer.output_format == "png", (answer.size, answer.output_format)
        assert len(answer.data) == request.get("n", 1), len(answer.data)
        assert [entry["modm"] for entry in entries["data"]] == entries["modm"], "each picture has its own beside it"
        pictures = [self.picture(entry) for entry in entries["data"]]
        return entries, pictures

    def picture(self, entry):
        """The PNG of an entry of `data`."""
        made = entry["modm"]
        assert KEYS_OF_PICTURE <= made.keys(), made
        assert made["decision"] in {"miss", "hit", "return"} and made["total_steps"] == self.status["steps"], made
        assert 0 <= made["skipped_steps"] <= made["total_steps"], made
        assert (made["decision"] == "miss") == (made["source"] is None), made
        assert made["decision"] != "miss" or made["skipped_steps"] == 0, made
        assert min(made["queue_s"], made["denoise_s"], made["latency_s"]) >= 0, made
        png = base64.b64decode(entry["b64_json"], validate=True) if "b64_json" in entry else self.fetch(entry["url"])
        assert png_size(png) == self.size, png_size(png)
        return png

    def fetch(self, url):
        assert url.startswith(f"{self.base}/v1/images/"), url
        answer = self.http.get(url)
        assert answer.status_code == 200, f"{url}: {answer.status_code} {answer.text}"
        assert answer.headers["content-type"] == "image/png", answer.headers
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable", answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff", answer.headers
        return answer.content

    def submit(self, **request):
        answer = self.http.post("/v1/jobs", json=request)
        assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
        job = answer.json()
        assert (job["object"], job["status"]) == ("image.job", "queued"), job
        assert answer.headers["location"] == f"/v1/jobs/{job['id']}", answer.headers
        return job["id"]

    def events(self, job):
        """All events of a job, until the server ends the stream."""
        name, data, all_events = None, [], []
        with self.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
            assert answer.status_code == 200, answer.status_code
            assert answer.headers["content-type"].split(";")[0] == "text/event-stream", answer.headers
            for line in answer.iter_lines():
                field, _, value = line.partition(":")
                if field == "event":
                    name = value.strip()
                elif field == "data":
                    data.append(value.removeprefix(" "))
                elif not line and name is not None:
                    all_events.append((name, json.loads("\n".join(data)) if data else None))
                    name, data = None, []
        return all_events


def same_seed_same_picture(server):
    """Requests of one moment find nothing of each other in the cache, so all of them miss unless something else is near."""
    for _ in range(TRIES):
        prompt = caption()
        with ThreadPoolExecutor(3) as threads:
            drawn = list(threads.map(lambda seed: server.draw(prompt=prompt, extra_body={"seed": seed}), [7, 7, 8]))
        made = [entries["modm"][0] for entries, _ in drawn]
        if all(one["decision"] == "miss" for one in made):
            (first,), (again,), (other,) = (pictures for _, pictures in drawn)
            assert first == again, f"seed 7 gave two pictures of {prompt!r}"
            assert first != other, f"seeds 7 and 8 gave one picture of {prompt!r}"
            return "seeds 7, 7 and 8 of one prompt: the same, the same, another"
    assert server.status["cache_images"] > NEARLY_EMPTY, f"{TRIES} prompts, and a hit among each three requests"
    return "not compared: the cache is full and always hits"


def pictures_in_the_answer(server):
    asked = {"n": 2, "response_format": "b64_json", "size": "auto", "model": "modm", "user": "tests"}
    entries, pictures = server.draw(prompt=caption(), **asked)
    assert all(set(entry) == {"b64_json", "modm"} for entry in entries["data"]), entries
    assert pictures[0] != pictures[1], "two pictures of one request differ"
    server.draw(prompt=caption(), size=server.size, quality="standard", background="opaque", output_format="png")
    return f"{len(pictures)} of {server.size}"


def pictures_by_url(server):
    entries, pictures = server.draw(prompt=caption(), n=2, response_format="url")
    assert all(set(entry) == {"url", "modm"} for entry in entries["data"]), entries
    assert len(set(pictures)) == 2, "two pictures of one request differ"
    for entry, picture in zip(entries["data"], pictures):
        assert entry["url"].endswith("/" + entry["modm"]["id"]), entry
        assert server.fetch(entry["url"]) == picture, "a picture never changes"
    return "fetched twice"


def deadline(server):
    entries, _ = server.draw(prompt=caption(), extra_body={"deadline_s": 60})
    return f"done in {entries['modm'][0]['latency_s']:.2f} s"


def keys_without_effect(server):
    """What OpenAI's package can send and nothing here depends on: accepted, and named."""
    told = {"quality": "high", "style": "vivid", "moderation": "low", "background": "opaque", "user": "tests"}
    answer = server.openai.images.with_raw_response.generate(prompt=caption(), model="gpt-image-1", **told)
    ignored = set(answer.headers["x-modm-ignored"].split(", "))
    assert ignored == told.keys(), ignored
    assert answer.headers["x-modm-model"] in server.status["models"], answer.headers
    plain = server.openai.images.with_raw_response.generate(prompt=caption())
    assert "x-modm-ignored" not in plain.headers, plain.headers
    return ", ".join(sorted(ignored))


def forms_of_pictures(server):
    signs = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
    for form, sign in signs.items():
        drawn = server.openai.images.generate(prompt=caption(), output_format=form, output_compression=80)
        assert drawn.output_format == form, drawn.output_format
        assert base64.b64decode(drawn.data[0].b64_json).startswith(sign), form
        linked = server.openai.images.generate(prompt=caption(), output_format=form, response_format="url")
        answer = server.http.get(linked.data[0].url)
        assert answer.headers["content-type"] == f"image/{form}" and answer.content.startswith(sign), answer.headers
    return ", ".join(signs)


def streams(server):
    for more in [{}, {"partial_images": 2}, {"n": 2}]:
        events = list(server.openai.images.generate(prompt=caption(), model="modm", stream=True, **more))
        assert [event.type for event in events] == ["image_generation.completed"] * more.get("n", 1), events
        assert all(png_size(base64.b64decode(event.b64_json)) == server.size for event in events)
    return "a picture an event"


def edits(server):
    _, (source,) = server.draw(prompt=caption())
    image = ("source.png", source, "image/png")
    made = []
    for strength in (0.2, 0.9):
        edited = server.openai.images.edit(prompt=caption(), image=image, extra_body={"strength": strength})
        made.append(edited.data[0].modm)
        assert png_size(base64.b64decode(edited.data[0].b64_json)) == server.size
    assert all(one["decision"] == "edit" and one["source"] is None for one in made), made
    assert made[0]["skipped_steps"] > made[1]["skipped_steps"] > 0, made
    events = list(server.openai.images.edit(prompt=caption(), image=image, stream=True))
    assert [event.type for event in events] == ["image_edit.completed"], events
    masked = partial(server.openai.images.edit, prompt=caption(), image=image, mask=image)
    several = partial(server.openai.images.edit, prompt=caption(), image=[image, image])
    for call in [masked, several, partial(server.openai.images.create_variation, image=image)]:
        refused(openai.InternalServerError, 501, call, code="not_offered")
    return f"{made[0]['skipped_steps']} and {made[1]['skipped_steps']} steps skipped"


def models(server):
    listed = server.openai.models.list().data
    names = [model.id for model in listed]
    assert names[0] == "modm" and set(server.status["models"]) <= set(names), names
    assert all(server.openai.models.retrieve(name).id == name for name in names), names
    return ", ".join(names)


def refused(kind, status, call, param=None, code=None):
    """Calls, and expects the package's exception with what the server says."""
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind and error.status_code == status, f"{type(error).__name__}: {error}"
        assert (error.param, error.code) == (param, code), f"param {error.param}, code {error.code}: {error}"
        assert error.body["message"], error.body
        return
    raise AssertionError(f"expected {kind.__name__} for {param or code}")


def errors(server):
    wrong = {"prompt": "", "size": "big", "n": 11, "response_format": "jpeg", "style": "loud", "quality": "ultra"}
    wrong |= {"background": "transparent", "output_format": "gif", "output_compression": 101, "moderation": "none"}
    wrong |= {"model": "no-such-model", "partial_images": 4, "seed": -1, "deadline_s": 0, "colour": "red"}
    for param, value in wrong.items():
        # What stands in `extra_body` goes out as it is, in place of what the package would send.
        call = partial(server.openai.images.generate, prompt=caption(), extra_body={param: value})
        refused(openai.BadRequestError, 400, call, param=param)
    refused(openai.NotFoundError, 404, lambda: server.openai.models.retrieve("no-such-model"), code="not_found")
    for path in ["/v1/jobs/none", "/v1/jobs/none/events", "/v1/images/none", "/v1/nothing"]:
        answer = server.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), f"{path}: {answer.text}"
    plain = server.http.post("/v1/jobs", content="a red star", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415 and plain.json()["error"]["type"] == "invalid_request_error", plain.text
    put = server.http.put("/v1/jobs", json={"prompt": "a red star"})
    assert put.status_code == 405 and put.json()["error"]["type"] == "invalid_request_error", put.text
    return f"{len(wrong)} of requests, and others"


def keys(server):
    if server.key is None:
        return "none on this server"
    stranger = server.openai.with_options(api_key="modm-wrong")
    refused(openai.AuthenticationError, 401, stranger.models.list, code="invalid_api_key")
    refused(openai.AuthenticationError, 401, lambda: stranger.images.generate(prompt=caption()), code="invalid_api_key")
    for path in ["/v1/status", "/v1/models", "/v1/jobs/none", "/v1/images/none", "/metrics"]:
        assert httpx.get(server.base + path).status_code == 401, path
    return "a wrong one and none are refused"


def job_by_polling(server):
    job = server.submit(prompt=caption(), n=2, seed=3)
    until = time.monotonic() + TIMEOUT_S
    while (now := server.get(f"/v1/jobs/{job}"))["status"] not in FINAL:
        assert now["id"] == job and now["data"] == [] and 0 <= now["step"] <= now["steps"], now
        assert time.monotonic() < until, f"not done after {TIMEOUT_S} s: {now}"
        time.sleep(0.05)
    assert now["status"] == "completed" and now["error"] is None and len(now["data"]) == 2, now
    assert len({server.picture(entry) for entry in now["data"]}) == 2, "two pictures of one job differ"
    return "completed"


def job_by_events(server):
    job = server.submit(prompt=caption())
    events = server.events(job)
    names = [name for name, _ in events]
    assert names[-1] == "completed" and not FINAL & set(names[:-1]), names
    assert set(names) <= {"queued", "routed", "started", "step"} | FINAL, names
    for name, data in events:
        if name == "routed":
            assert data.keys() >= {"decision", "skipped_steps", "similarity"}, data
        elif name == "started":
            assert data["model"] in server.status["models"], data
    steps = [data["step"] for name, data in events if name == "step"]
    assert steps == sorted(steps) and all(step <= server.status["steps"] for step in steps), steps
    done = events[-1][1]
    assert done == server.get(f"/v1/jobs/{job}"), done
    server.picture(done["data"][0])
    late = server.events(job)
    assert late[-1] == events[-1], late
    return f"{len(events)} of them, {len(steps)} of steps; {len(late)} for who comes late"


def job_cancelled(server):
    job = server.submit(prompt=caption(), n=10)
    answer = server.http.delete(f"/v1/jobs/{job}")
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    cancelled = answer.json()
    assert cancelled["status"] == "cancelled" and cancelled["data"] == [], cancelled
    assert server.events(job)[-1][0] == "cancelled"
    assert server.http.delete(f"/v1/jobs/{job}").json()["status"] == "cancelled"
    assert server.get(f"/v1/jobs/{job}")["status"] == "cancelled"
    ended = server.submit(prompt=caption())
    server.events(ended)
    assert server.http.delete(f"/v1/jobs/{ended}").json()["status"] == "completed", "what has ended stays as it ended"
    return "one that waits, and one that has ended"


def what_else_there_is(server):
    cached = server.get("/v1/cache?limit=2")
    assert len(cached["data"]) == 2 and cached["has_more"], cached
    for entry in cached["data"]:
        assert png_size(server.fetch(f"{server.base}/v1/images/{entry['id']}")) == server.size, entry
    older = server.get(f"/v1/cache?limit=1&before={cached['data'][0]['id']}")
    assert older["data"] == cached["data"][1:], "the page after the first begins with its second"
    for path, kind in {"/healthz": "ok\n", "/readyz": "ready\n"}.items():
        assert httpx.get(server.base + path).text == kind, path
    assert httpx.get(server.base + "/openapi.json").json()["openapi"].startswith("3.1"), "/openapi.json"
    metrics = server.http.get("/metrics")
    kind = metrics.headers["content-type"]
    # A tenant's key does not see them.
    metrics_types = {200: {"text/plain", "application/openmetrics-text"}, 403: {"application/json"}}
    assert kind.split(";")[0] in metrics_types[metrics.status_code], kind
    return f"{server.get('/v1/status')['cache_images']} pictures in the cache"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    server = Server(sys.argv[1].rstrip("/"), sys.argv[2] if len(sys.argv) == 3 else None)
    # The first needs a cache with little in it; the last wants one with something.
    pictures = [same_seed_same_picture, pictures_in_the_answer, pictures_by_url, deadline]
    pictures += [keys_without_effect, forms_of_pictures, streams, edits]
    jobs = [job_by_polling, job_by_events, job_cancelled]
    for check in [*pictures, models, errors, keys, *jobs, what_else_there_is]:
        print(f"{check.__name__.replace('_', ' '):<24} {check(server)}", flush=True)


if __name__ == "__main__":
    main()

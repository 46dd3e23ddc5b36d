"""How long a quiet tenant waits alone, and beside a noisy one with 150 connections that ask for ten pictures each.

    python noise.py MODM [REQUESTS] [FLAG...]     MODM a built program; REQUESTS of the quiet tenant in each turn (10);
                                                  flags go to the server, e.g. --set 'queue.order="oldest"'

Turns alternate: alone, beside, three times. Prints the median and the longest wait of each. Run it from the repository
root, with ORT_DYLIB_PATH set. It needs httpx (requirements.txt)."""

import asyncio
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import httpx

CONNECTIONS = 150
TURNS = 3
program, requests, flags = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10, sys.argv[3:]


def key(tenant):
    made = subprocess.run([program, "key", tenant], capture_output=True, text=True, check=True)
    return made.stderr.split()[-1], made.stdout


async def draw(client, key, prompt, **more):
    headers = {"Authorization": f"Bearer {key}"}
    return await client.post("/v1/images/generations", json={"prompt": prompt, **more}, headers=headers)


async def quiet(client, key):
    """Seconds that each of some requests took, one each second."""

    async def one(number):
        begun = time.monotonic()
        answer = await draw(client, key, f"a small green star at the bottom right on white {number}")
        assert answer.status_code == 200, answer.text
        return time.monotonic() - begun

    asked = []
    for number in range(requests):
        asked.append(asyncio.create_task(one(number)))
        await asyncio.sleep(1)
    return await asyncio.gather(*asked)


async def noisy(client, key, answers):
    while True:
        prompt = f"a large red circle at the top left on black {random.randrange(99)}"
        answer = await draw(client, key, prompt, n=10)
        answers[answer.status_code] = answers.get(answer.status_code, 0) + 1
        if answer.status_code == 429:
            await asyncio.sleep(0.2)


async def measure(origin, quiet_key, noisy_key):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=origin, limits=limits, timeout=600) as client:
        alone, beside, answers = [], [], {}
        await quiet(client, quiet_key)  # what it asks for is cached from here on
        for _ in range(TURNS):
            alone += await quiet(client, quiet_key)
            noise = [asyncio.create_task(noisy(client, noisy_key, answers)) for _ in range(CONNECTIONS)]
            await asyncio.sleep(8)
            beside += await quiet(client, quiet_key)
            for task in noise:
                task.cancel()
            await asyncio.gather(*noise, return_exceptions=True)
            await asyncio.sleep(3)
    for name, waits in [("alone", alone), ("beside", beside)]:
        print(f"{name:7} {len(waits)} requests, median {statistics.median(waits):.3f} s, longest {max(waits):.3f} s")
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"medians {ratio:.2f} to 1; answers to the noisy tenant: {answers}")


with tempfile.TemporaryDirectory() as folder:
    (quiet_key, first), (noisy_key, second) = key("quiet"), key("noisy")
    with open(f"{folder}/keys.toml", "w") as keys:
        keys.write(first + second)
    words = [program, "serve", "scenarios/live-shapes.toml", "--data", f"{folder}/data", "--listen", "127.0.0.1:0",
             "--keys", f"{folder}/keys.toml", *flags]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=None) as server:
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.match(r"listening on (\S+)", line):
                break
        else:
            sys.exit("".join(said))


        threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
        try:
            asyncio.run(measure(found[1], quiet_key, noisy_key))
        finally:
            server.kill()

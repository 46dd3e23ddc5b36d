"""How long a quiet tenant waits alone, and beside a noisy one with 150 connections that ask for ten pictures each.

    python noise.py MODM [REQUESTS] [FLAG...]     MODM a built program; REQUESTS of the quiet tenant in each turn (10);
                                                  flags go to the server, e.g. --set 'queue.order="oldest"'

Turns alternate: alone, beside, three times. Prints medians as the quiet client measures them and as the server does
(`latency_s`), and the ratios. Run it from the repository root, with ORT_DYLIB_PATH set. The noise is a process of its
own, so that its connections cost the quiet client nothing but the processor."""

import asyncio
import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import served

CONNECTIONS = 150
TURNS = 3


async def noisy(host, port, key):
    """One connection after another: a small client, since 150 of a large one are slower than the server."""
    while True:
        prompt = f"a large red circle at the top left on black {random.randrange(99)}"
        body = json.dumps({"prompt": prompt, "n": 10})
        head = (f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
        reader, writer = await asyncio.open_connection(host, port)
        writer.write((head + body).encode())
        answer = await reader.read()
        writer.close()
        if answer.split()[1] == b"429":
            await asyncio.sleep(1)


async def noise(host, port, key):
    await asyncio.gather(*(noisy(host, port, key) for _ in range(CONNECTIONS)))


def quiet(host, port, key, requests):
    """(seconds as measured here, seconds as the server says) of some requests, one a second."""
    waits = []
    for number in range(requests):
        begun = time.monotonic()
        connection = http.client.HTTPConnection(host, port)
        body = {"prompt": f"a small green star at the bottom right on white {number}"}
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/images/generations", json.dumps(body), headers)
        answer = connection.getresponse()
        drawn = json.loads(answer.read())
        assert answer.status == 200, drawn
        waits.append((time.monotonic() - begun, drawn["modm"][0]["latency_s"]))
        time.sleep(max(0, begun + 1 - time.monotonic()))
    return waits


def tell(alone, beside):
    for name, turn in [("alone", alone), ("beside", beside)]:
        client, server = (statistics.median(column) for column in zip(*turn))
        print(f"{name:7} {len(turn)} requests, median {client:.3f} s here, {server:.3f} s by the server")
    ratios = (statistics.median(b) / statistics.median(a) for a, b in zip(zip(*alone), zip(*beside)))
    print("beside to alone: {:.2f} here, {:.2f} by the server".format(*ratios), flush=True)


def measure(program, requests, flags):
    def key(tenant):
        made = subprocess.run([program, "key", tenant], capture_output=True, text=True, check=True)
        return made.stderr.split()[-1], made.stdout

    with tempfile.TemporaryDirectory() as folder:
        (quiet_key, first), (noisy_key, second) = key("quiet"), key("noisy")
        with open(f"{folder}/keys.toml", "w") as keys:
            keys.write(first + second)
        flags = ["--keys", f"{folder}/keys.toml", *flags]
        server, address = served.start(program, "scenarios/live-shapes.toml", f"{folder}/data", flags)
        host, port = address.removeprefix("http://").split(":")
        try:
            quiet(host, port, quiet_key, requests)  # what it asks for is cached from here on
            alone, beside = [], []
            for _ in range(TURNS):
                alone += quiet(host, port, quiet_key, requests)
                made = subprocess.Popen([sys.executable, __file__, "--noise", host, port, noisy_key])
                time.sleep(8)
                beside += quiet(host, port, quiet_key, requests)
                made.send_signal(signal.SIGKILL)
                made.wait()
                tell(alone, beside)
                time.sleep(3)
        finally:
            server.kill()
            server.wait()


if sys.argv[1] == "--noise":
    asyncio.run(noise(sys.argv[2], int(sys.argv[3]), sys.argv[4]))
else:
    measure(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10, sys.argv[3:])

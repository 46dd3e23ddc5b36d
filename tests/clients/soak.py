"""A server under 120 % of what it can serve, for a long time: memory stays flat, the queue within its bound, what does not fit is
refused with 429 and counted, and every job that was acknowledged ends.

  soak.py MODM SECONDS [DATA [LOAD]]   from the repository's root, with requirements.txt; ORT_DYLIB_PATH says where ONNX Runtime is;
                                       DATA keeps what the server leaves, its recorded traffic among it; LOAD is what is offered
                                       of what it can serve, 1.2 unless given: below 1 nothing may be refused

scripts/nightly runs it for half an hour.
"""

import asyncio
import pathlib
import random
import signal
import sys
import tempfile
import time

import httpx

import served

QUEUE = 50
# Steps so few that many requests come and go; a cache so small that it is always full, and hits so choosy that some miss.
FLAGS = ["--set", "models.steps=26", "--set", "system.bounds=[[0.90, 10], [0.97, 20]]", "--rate-per-min", "1000000",
         "--set", "cache.capacity=60", "--set", "serve.audit_share=0.05",
         "--set", f"serve.max_queue={QUEUE}", "--set", "serve.keep_results_s=60"]
SIZES, COLOURS, SHAPES = ["small", "large"], ["red", "blue", "green", "yellow"], ["circle", "square", "triangle", "star"]
PLACES = ["the top left", "the top right", "the bottom left", "the center"]
# What may be added after the first fifth of the time, in which caches and pools fill.
SLACK_MB = 60


def prompt(draws):
    size, colour, shape, place = map(draws.choice, (SIZES, COLOURS, SHAPES, PLACES))
    return f"a {size} {colour} {shape} at {place} on a white background"


def resident_mb(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def capacity(client, draws, seconds=10):
    """Pictures a second with more waiting than can be drawn."""
    async def one(until):
        done = 0
        while time.monotonic() < until:
            answer = await client.post("/v1/images/generations", json={"prompt": prompt(draws)})
            done += answer.status_code == 200
        return done

    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(one(until) for _ in range(8)))) / seconds


async def state(client, job_id):
    """The job as the server has it."""
    answer = await client.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, f"{job_id}: {answer.status_code}: {answer.text}"
    return answer.json()


def hit_rate(metrics):
    counts = {"hit": 0.0, "miss": 0.0}
    for line in metrics.splitlines():
        if line.startswith("modm_decisions_total{"):
            counts[line.split('decision="')[1].split('"')[0]] += float(line.split()[-1])
    return counts["hit"] / sum(counts.values())


async def soak(server, address, seconds, load):
    draws = random.Random(1)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=httpx.Limits(max_connections=64)) as client:
        rate = load * await capacity(client, draws)
        print(f"offers {rate:.1f} requests a second, {load:.0%} of what was served", flush=True)
        acknowledged, refused, memory, queued = [], 0, [], 0
        begun = time.monotonic()
        due, seen = begun, begun

        async def submit():
            nonlocal refused
            answer = await client.post("/v1/jobs", json={"prompt": prompt(draws)})
            if answer.status_code == 202:
                acknowledged.append(answer.json()["id"])
            else:
                assert answer.status_code == 429 and answer.json()["error"]["code"] == "queue_full", answer.text
                assert int(answer.headers["retry-after"]) >= 1
                refused += 1

        tasks = set()
        ended = 0
        while (now := time.monotonic()) < begun + seconds:
            if now >= due:
                task = asyncio.create_task(submit())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += draws.expovariate(rate)
            if now >= seen + 5:
                seen = now
                status = (await client.get("/v1/status")).json()
                queued = max(queued, status["queued"])
                memory.append(resident_mb(server.pid))
                # Jobs are asked for while they are kept; one may wait for longer than those after it are kept.
                for job_id in list(acknowledged):
                    job = await state(client, job_id)
                    if job["status"] not in ("queued", "running"):
                        assert job["status"] == "completed", job
                        acknowledged.remove(job_id)
                        ended += 1
            await asyncio.sleep(min(max(due - time.monotonic(), 0), 0.05))
        await asyncio.gather(*tasks)
        for job_id in acknowledged:
            while (job := await state(client, job_id))["status"] in ("queued", "running"):
                await asyncio.sleep(0.05)
            assert job["status"] == "completed", job
            ended += 1
        warm = memory[len(memory) // 5]
        most = max(memory[len(memory) // 5:])
        print(f"{ended} jobs ended, {refused} refused with 429, at most {queued} waiting of {QUEUE}, "
              f"{warm:.0f} MB after a fifth of the time, {most:.0f} MB at most")
        print(f"hit rate {hit_rate((await client.get('/metrics')).text):.4f}")
        assert (refused > 0) == (load > 1) and queued <= QUEUE
        assert most - warm <= SLACK_MB, f"memory grew by {most - warm:.0f} MB"


def main():
    modm, seconds = sys.argv[1], float(sys.argv[2])
    with tempfile.TemporaryDirectory() as passing:
        data = sys.argv[3] if len(sys.argv) > 3 else passing
        load = float(sys.argv[4]) if len(sys.argv) > 4 else 1.2
        server, address = served.start(modm, "scenarios/live-shapes.toml", data, FLAGS)
        try:
            asyncio.run(soak(server, address, seconds, load))
            server.send_signal(signal.SIGTERM)
            status = server.wait(60)
            assert status == 0, f"exit code {status}"
        finally:
            server.kill()
    print("the server holds")


main()

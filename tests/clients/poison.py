"""How long good requests take alone, and among requests on which every model fails.

    python poison.py MODM [REQUESTS]     MODM a built program; good requests of each turn (1,000), and as many bad ones

A copy of the models of shapes has a word, star, that no model can read. Four connections ask for good pictures one after
the other; in the turn beside, four more ask for bad ones. Turns alternate: alone, beside. Prints the medians of the good
requests and their ratio, and what was answered. Run it from the repository root, with ORT_DYLIB_PATH set."""

import collections
import http.client
import json
import pathlib
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time

import served

CONNECTIONS = 4
GOOD = "a small red circle at the top left on white"
BAD = "a small red star at the top left on white"


def models(folder):
    """The scenario of shapes with models that fail at a word."""
    for model in ["large", "small"]:
        shutil.copytree(f"models/shapes/{model}", folder / model)
        file = folder / model / "tokenizer/tokenizer.json"
        tokenizer = json.loads(file.read_text())
        assert "star" in tokenizer["model"]["vocab"]
        tokenizer["model"]["vocab"]["star"] = 100_000
        file.write_text(json.dumps(tokenizer))
    text = pathlib.Path("scenarios/live-shapes.toml").read_text()
    text = text.replace("../models/shapes/encoder", str(pathlib.Path("models/shapes/encoder").resolve()))
    text = text.replace("../models/shapes", str(folder))
    text = text.replace('"profiles/', f'"{pathlib.Path("scenarios").resolve()}/profiles/')
    scenario = folder / "scenario.toml"
    scenario.write_text(text)
    return scenario


def ask(address, prompt, times, answers):
    """One connection that asks until `times` has no more to take."""
    host = address.split("//")[1]
    while True:
        try:
            times.pop()
        except IndexError:
            return
        connection = http.client.HTTPConnection(host, timeout=120)
        begun = time.monotonic()
        connection.request("POST", "/v1/images/generations", json.dumps({"prompt": prompt}), {"content-type": "application/json"})
        status = connection.getresponse()
        status.read()
        answers.append((status.status, time.monotonic() - begun))
        connection.close()


def turn(address, good, bad):
    """Answers of so many good and bad requests."""
    found = {}
    threads = []
    for prompt, count in [(GOOD, good), (BAD, bad)]:
        left, answers = [None] * count, found.setdefault(prompt, [])
        threads += [threading.Thread(target=ask, args=(address, prompt, left, answers)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[GOOD], found[BAD]


def main():
    modm, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        scenario = models(place / "models")
        flags = ["--rate-per-min", "1000000", "--set", "cache.capacity=1", "--set", "models.steps=26",
                 "--set", "system.bounds=[[0.999, 10]]"]
        server, address = served.start(modm, scenario, place / "data", flags)
        try:
            turn(address, 20, 0)
            times, kinds = {"alone": [], "beside": []}, collections.Counter()
            for _ in range(2):
                for name, bad in [("alone", 0), ("beside", count // 2)]:
                    good, failed = turn(address, count // 2, bad)
                    times[name] += [seconds for status, seconds in good if status == 200]
                    kinds.update(f"good {status}" for status, _ in good)
                    kinds.update(f"bad {status}" for status, _ in failed)
            alone, beside = (statistics.median(times[name]) for name in ["alone", "beside"])
            print(f"answers: {dict(kinds)}")
            print(f"median of good requests: {alone:.3f} s alone, {beside:.3f} s beside {count} bad ones, ratio {beside / alone:.2f}")
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()


main()

#!/usr/bin/env python3
"""Replays traces whose prompts either repeat exactly or have nothing in common, and compares the hits of each
eviction policy with caches written here from the papers alone, request by request. Needs numpy.

    scripts/check_eviction.py target/release/modm

Not a benchmark. Requests come far enough apart that each has ended before the next.
"""

import bisect
import collections
import csv
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CAPACITIES = [10, 100, 400]
REQUESTS, KEYS, DIMENSION = 4000, 1000, 64
LARGE_S, SMALL_STEP_S, STEPS, SKIPPED = 50.0, 0.25, 50, 10


class Fifo:
    """First in, first out."""

    def __init__(self, capacity):
        self.capacity, self.held = capacity, collections.OrderedDict()

    def request(self, key):
        if key in self.held:
            self.hit(key)
            return True
        if len(self.held) == self.capacity:
            self.evict()
        self.held[key] = self.new()
        return False

    def new(self):
        return 0

    def hit(self, key):
        pass

    def evict(self):
        self.held.popitem(last=False)


class Lru(Fifo):
    def hit(self, key):
        self.held.move_to_end(key)


class Lfu(Fifo):
    """Fewest hits; of those the longest unused."""

    def hit(self, key):
        self.held[key] += 1
        self.held.move_to_end(key)

    def evict(self):
        # min takes the first of equals, and the first is the longest unused.
        del self.held[min(self.held, key=self.held.get)]


class Lcbfu(Fifo):
    """Fewest spared steps; of those the oldest."""

    def hit(self, key):
        self.held[key] += SKIPPED

    def evict(self):
        del self.held[min(self.held, key=self.held.get)]


class Gdsf(Fifo):
    """Least level + saved + mean saving; of those the least saved, then the oldest."""

    def __init__(self, capacity):
        super().__init__(capacity)
        self.level, self.total, self.hits = 0.0, 0.0, 0
        self.saved = LARGE_S - SMALL_STEP_S * (STEPS - SKIPPED)

    def priority(self, saved):
        return self.level + saved + (self.total / self.hits if self.hits else 0.0)

    def new(self):
        return self.priority(0.0), 0.0

    def hit(self, key):
        self.total, self.hits = self.total + self.saved, self.hits + 1
        saved = self.held[key][1] + self.saved
        self.held[key] = self.priority(saved), saved

    def evict(self):
        key = min(self.held, key=self.held.get)
        self.level = self.held.pop(key)[0]


class Sieve(Fifo):
    """A list from old to new with a hand."""

    def __init__(self, capacity):
        super().__init__(capacity)
        self.order, self.hand = [], 0

    def request(self, key):
        found = super().request(key)
        if not found:
            self.order.append(key)
        return found

    def hit(self, key):
        self.held[key] = 1

    def evict(self):
        while True:
            if self.hand >= len(self.order):
                self.hand = 0
            key = self.order[self.hand]
            if not self.held[key]:
                del self.order[self.hand], self.held[key]
                return
            self.held[key] = 0
            self.hand += 1


class S3Fifo:
    """Small queue, main queue, ghosts."""

    def __init__(self, capacity):
        self.capacity, self.small_size = capacity, max(1, capacity // 10)
        self.small, self.main, self.ghosts, self.uses = [], [], [], {}

    def request(self, key):
        if key in self.uses:
            self.uses[key] = min(3, self.uses[key] + 1)
            return True
        if len(self.uses) == self.capacity:
            self.evict()
        if key in self.ghosts:
            self.ghosts.remove(key)
            self.main.append(key)
        else:
            self.small.append(key)
        self.uses[key] = 0
        return False

    def evict(self):
        while True:
            if len(self.small) >= self.small_size or not self.main:
                key = self.small.pop(0)
                if self.uses[key] > 1:
                    self.uses[key] = 0
                    self.main.append(key)
                    continue
                self.ghosts.append(key)
                if len(self.ghosts) > self.capacity - self.small_size:
                    self.ghosts.pop(0)
            else:
                key = self.main.pop(0)
                if self.uses[key] > 0:
                    self.uses[key] -= 1
                    self.main.append(key)
                    continue
            del self.uses[key]
            return


class Farthest(Fifo):
    """Belady: that whose next request lies farthest ahead. Needs the trace."""

    def __init__(self, capacity):
        super().__init__(capacity)
        self.at, self.places = -1, collections.defaultdict(list)

    def foresee(self, keys):
        for at, key in enumerate(keys):
            self.places[key].append(at)

    def request(self, key):
        self.at += 1
        return super().request(key)

    def next_use(self, key):
        places = self.places[key]
        place = bisect.bisect_right(places, self.at)
        return places[place] if place < len(places) else math.inf

    def evict(self):
        del self.held[max(self.held, key=self.next_use)]


POLICIES = {"fifo": Fifo, "lru": Lru, "lfu": Lfu, "lcbfu": Lcbfu, "sieve": Sieve, "s3-fifo": S3Fifo, "gdsf": Gdsf, "farthest": Farthest}

SCENARIO = f"""
name = "exact-keys"
[trace]
requests = "requests.csv"
prompt_embeddings = "keys.npy"
image_embeddings = "keys.npy"
[cluster]
gpus = [{{ type = "gpu", count = 2 }}]
[models]
profile = "profile.toml"
large = "large"
small = ["small"]
steps = {STEPS}
[system]
policy = "modm"
bounds = [[0.999, {SKIPPED}]]
[cache]
admission = "miss"
[allocation]
policy = "static"
initial_large = 1
"""

PROFILE = f"""
source = "made for a check"
[[service]]
gpu = "gpu"
model = "large"
step_s = {LARGE_S / STEPS}
load_s = 1.0
[[service]]
gpu = "gpu"
model = "small"
step_s = {SMALL_STEP_S}
load_s = 1.0
"""


def traces(rng):
    """Keys by request: skewed popularity, the same with a drift, and a skew broken by scans."""
    weights = 1 / np.arange(1, KEYS + 1) ** 0.8
    skewed = rng.choice(KEYS, REQUESTS, p=weights / weights.sum())
    yield "skewed", skewed
    yield "drifting", (skewed + np.arange(REQUESTS) // 8) % KEYS
    scanned = skewed.copy()
    for begin in range(500, REQUESTS, 1000):
        scanned[begin : begin + 300] = np.arange(300) + KEYS // 2
    yield "scanned", scanned


def main():
    binary, checked = Path(sys.argv[1]).resolve(), 0
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((KEYS, DIMENSION), np.float32)
    for name, keys in traces(rng):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "scenario.toml").write_text(SCENARIO)
            (folder / "profile.toml").write_text(PROFILE)
            (folder / "requests.csv").write_text("arrival_s\n" + "".join(f"{100 * row}\n" for row in range(REQUESTS)))
            np.save(folder / "keys.npy", vectors[keys])
            most = collections.Counter()
            for policy, cache in POLICIES.items():
                for capacity in CAPACITIES:
                    out = folder / f"{policy}-{capacity}"
                    settings = [f"cache.eviction={policy}", f"cache.capacity={capacity}"]
                    flags = [flag for setting in settings for flag in ("--set", setting)]
                    subprocess.run([binary, "simulate", folder / "scenario.toml", "--out", out, "--quiet", *flags], check=True, capture_output=True)
                    with open(out / "requests.csv") as file:
                        ours = [row["decision"] == "hit" for row in csv.DictReader(file)]
                    model = cache(capacity)
                    if policy == "farthest":
                        model.foresee(keys)
                    most[capacity] = max(most[capacity], sum(ours))
                    theirs = [model.request(key) for key in keys]
                    if ours != theirs:
                        row = next(row for row in range(REQUESTS) if ours[row] != theirs[row])
                        sys.exit(f"{name}, {policy}, capacity {capacity}: differs at row {row}; hits {sum(ours)} against {sum(theirs)}")
                    if policy == "farthest" and sum(ours) < most[capacity]:
                        sys.exit(f"{name}, capacity {capacity}: {most[capacity]} hits are more than those of who knows the future")
                    checked += 1
                    print(f"{name:9} {policy:8} capacity {capacity:4}: {sum(ours):4} hits of {REQUESTS}, equal")
    print(f"{checked} passed, 0 failed")


if __name__ == "__main__":
    main()

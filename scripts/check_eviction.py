#!/usr/bin/env python3
"""Compares the evictions of the program, request by request, with libCacheSim and with the published pseudocode, on
traces whose prompts either repeat exactly or have nothing in common: 50 random ones, 50 broken by scans, 50 that loop
and 50 with images of different sizes. Needs numpy and libcachesim 0.3.5; without the latter it says so and compares
with the pseudocode alone.

    scripts/check_eviction.py target/release/modm

Not a benchmark. Requests come far enough apart that each has ended before the next.
"""

import bisect
import collections
import concurrent.futures
import csv
import math
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

try:
    import libcachesim

    MISSING = None
except ImportError as error:
    libcachesim, MISSING = None, error

TRACES, REQUESTS, DIMENSION = 50, 400, 32
LARGE_S, SMALL_STEP_S, STEPS, SKIPPED = 50.0, 0.25, 50, 10
# Factors to all service times, none of them a power of two: rounding of seconds must not decide ties.
FACTORS = [1.832, 0.0037]


class Fifo:
    """First in, first out. Sizes are those of keys; 1 without."""

    def __init__(self, capacity, sizes=None):
        self.capacity, self.sizes, self.occupied = capacity, sizes, 0
        self.held = collections.OrderedDict()

    def size(self, key):
        return 1 if self.sizes is None else self.sizes[key]

    def request(self, key):
        if key in self.held:
            self.hit(key)
            return True
        if self.size(key) <= self.capacity:
            while self.occupied + self.size(key) > self.capacity:
                self.occupied -= self.size(self.evict())
            self.occupied += self.size(key)
            self.insert(key)
        return False

    def insert(self, key):
        self.held[key] = 0

    def hit(self, key):
        pass

    def evict(self):
        """Takes a key out and returns it."""
        return self.held.popitem(last=False)[0]


class Lru(Fifo):
    """Longest unused first."""

    def hit(self, key):
        self.held.move_to_end(key)


class Lfu(Fifo):
    """Fewest hits first; of those the longest unused."""

    def hit(self, key):
        self.held[key] += 1
        self.held.move_to_end(key)

    def evict(self):
        # min takes the first of equals, and the first is the longest unused.
        key = min(self.held, key=self.held.get)
        del self.held[key]
        return key


class Lcbfu(Lfu):
    """Fewest spared steps first (Nirvana, NSDI '24); of those the oldest."""

    def hit(self, key):
        self.held[key] += SKIPPED


class Gdsf(Fifo):
    """Least clock + frequency x cost / size first (Cherkasova 1998), cost 1; of those the longest unused. What comes in
    competes with what is there."""

    clock = Fraction(0)

    def request(self, key):
        if key in self.held:
            self.hit(key)
            return True
        if self.size(key) <= self.capacity:
            self.occupied += self.size(key)
            self.insert(key)
            while self.occupied > self.capacity:
                self.occupied -= self.size(self.evict())
        return False

    def insert(self, key):
        self.held[key] = (self.clock + Fraction(1, self.size(key)), 1)

    def hit(self, key):
        frequency = self.held[key][1] + 1
        self.held[key] = (self.clock + Fraction(frequency, self.size(key)), frequency)
        self.held.move_to_end(key)

    def evict(self):
        key = min(self.held, key=lambda key: self.held[key][0])
        self.clock = self.held.pop(key)[0]
        return key


class Sieve(Fifo):
    """Algorithm 1 of NSDI '24: a queue with the newest at place 0, a hand that goes to `prev`, and NULL at the head."""

    hand = None

    def __init__(self, capacity, sizes=None):
        super().__init__(capacity, sizes)
        self.queue = []

    def insert(self, key):
        self.queue.insert(0, key)
        self.held[key] = False

    def hit(self, key):
        self.held[key] = True

    def previous(self, place):
        return self.queue[place - 1] if place > 0 else None

    def evict(self):
        tail = len(self.queue) - 1
        place = tail if self.hand is None else self.queue.index(self.hand)
        while self.held[self.queue[place]]:
            self.held[self.queue[place]] = False
            place = place - 1 if place > 0 else tail
        self.hand = self.previous(place)
        key = self.queue.pop(place)
        del self.held[key]
        return key


class S3Fifo(Fifo):
    """The pseudocode of SOSP '23: small queue, main queue, ghosts. `cold_main` is how libCacheSim fills an empty cache:
    what comes while the small queue is full goes to the main one until something has been evicted."""

    cold_main = False

    def __init__(self, capacity, sizes=None):
        super().__init__(capacity, sizes)
        self.small_size = max(1, capacity // 10)
        self.small, self.main, self.ghosts = [], [], []
        self.evicted, self.recalled = False, False

    def used(self, queue):
        return sum(map(self.size, queue))

    def request(self, key):
        self.recalled = False
        if self.cold_main and key not in self.held and key in self.ghosts:
            # libCacheSim looks among the ghosts before it evicts, the paper afterwards.
            self.ghosts.remove(key)
            self.recalled = True
        return super().request(key)

    def insert(self, key):
        self.held[key] = 0
        cold = self.cold_main and not self.evicted and self.used(self.small) >= self.small_size
        if self.recalled or cold:
            self.main.append(key)
        elif key in self.ghosts:
            self.ghosts.remove(key)
            self.main.append(key)
        else:
            self.small.append(key)

    def hit(self, key):
        self.held[key] = min(3, self.held[key] + 1)

    def evict(self):
        self.evicted = True
        if self.small and (self.used(self.small) >= self.small_size or not self.main):
            key = self.evict_small()
            if key is not None:
                return key
        return self.evict_main()

    def evict_small(self):
        while self.small:
            key = self.small.pop(0)
            if self.held[key] > 1:
                self.held[key] = 0
                self.main.append(key)
                continue
            self.ghosts.append(key)
            while self.used(self.ghosts) > self.capacity - self.small_size:
                self.ghosts.pop(0)
            del self.held[key]
            return key
        return None

    def evict_main(self):
        while True:
            key = self.main.pop(0)
            if self.held[key] == 0:
                del self.held[key]
                return key
            self.held[key] -= 1
            self.main.append(key)


class S3FifoColdMain(S3Fifo):
    """S3-FIFO as libCacheSim has it."""

    cold_main = True


class Farthest(Fifo):
    """Belady's MIN: that whose next request lies farthest ahead; of those the oldest. Needs the trace."""

    def __init__(self, capacity, sizes=None):
        super().__init__(capacity, sizes)
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
        key = max(self.held, key=self.next_use)
        del self.held[key]
        return key


PUBLISHED = {
    "fifo": Fifo,
    "lru": Lru,
    "lfu": Lfu,
    "lcbfu": Lcbfu,
    "sieve": Sieve,
    "s3-fifo": S3Fifo,
    "gdsf": Gdsf,
    "farthest": Farthest,
}
# LCBFU is not in libCacheSim.
LIBRARY = {
    "fifo": "FIFO",
    "lru": "LRU",
    "lfu": "LFU",
    "sieve": "Sieve",
    "s3-fifo": "S3FIFO",
    "gdsf": "GDSF",
    "farthest": "Belady",
}

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

PROFILE = """
source = "made for a check"
[[service]]
gpu = "gpu"
model = "large"
step_s = {}
load_s = 1.0
[[service]]
gpu = "gpu"
model = "small"
step_s = {}
load_s = 1.0
"""


def skewed(rng, keys):
    weights = 1 / np.arange(1, keys + 1) ** rng.uniform(0.4, 1.1)
    return rng.choice(keys, REQUESTS, p=weights / weights.sum())


def trace(kind, rng):
    """Keys by request, their sizes or None, and a capacity, in images or bytes."""
    keys, capacity, sizes = int(rng.integers(60, 200)), int(rng.integers(2, 6)) * 10, None
    rows = skewed(rng, keys)
    if kind == "scanned":
        for begin in range(50, REQUESTS, 100):
            rows[begin : begin + 40] = np.arange(40) + int(rng.integers(keys))
    elif kind == "looping":
        length = capacity + int(rng.integers(-3, 10))
        rows = np.where(rng.random(REQUESTS) < 0.2, rows, np.arange(REQUESTS) % length)
    elif kind == "sized":
        # The reciprocals of powers of two are exact in doubles, those of most other sizes are not.
        sizes = 2 ** rng.integers(0, 5, 300) if rng.random() < 0.5 else rng.integers(1, 21, 300)
        sizes = [int(size) for size in sizes]
        capacity *= 10
    return [int(key) for key in rows], sizes, capacity


def of_program(binary, folder, policy, settings):
    """Whether each request is a hit in a run of the program."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "out"
    flags = [flag for setting in [f"cache.eviction={policy}", *settings] for flag in ("--set", setting)]
    command = [binary, "simulate", folder / "scenario.toml", "--out", out, "--quiet", *flags]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    with open(out / "requests.csv") as file:
        return [row["decision"] == "hit" for row in csv.DictReader(file)]


def of_published(cache, keys):
    if isinstance(cache, Farthest):
        cache.foresee(keys)
    return [cache.request(key) for key in keys]


def of_library(policy, capacity, keys, sizes):
    """Whether each request is a hit in libCacheSim."""
    cache, following, last = getattr(libcachesim, LIBRARY[policy])(capacity, hashpower=10), [], {}
    for row, key in reversed(list(enumerate(keys))):
        following.append(last.get(key, 2**62))
        last[key] = row
    hits = []
    for key, following_row in zip(keys, reversed(following)):
        size = 1 if sizes is None else sizes[key]
        request = libcachesim.Request(obj_id=key + 1, obj_size=size, next_access_vtime=following_row)
        hits.append(bool(cache.get(request)))
    return hits


def comparable(policy, sizes):
    """Whether libCacheSim decides as the published algorithm does."""
    if policy == "lcbfu":
        return False
    if sizes is None:
        return True
    # Where sizes differ, its S3-FIFO evicts from the main queue only once that is larger than its share, and its Belady
    # drops what is used no more in the order of a heap.
    return policy not in ("farthest", "s3-fifo")


def check(job):
    """One trace under every policy. Returns comparisons by policy: with the pseudocode, with libCacheSim."""
    binary, kind, seed = job
    rng = np.random.default_rng([11, seed, len(kind)])
    keys, sizes, capacity = trace(kind, rng)
    vectors = rng.standard_normal((max(keys) + 1, DIMENSION), np.float32)
    done = collections.Counter()

    def expect(what, ours, theirs):
        if ours != theirs:
            row = next(row for row in range(REQUESTS) if ours[row] != theirs[row])
            hits = f"hits {sum(ours)} against {sum(theirs)}"
            sys.exit(f"{kind} trace {seed}, capacity {capacity}: {what} differs from row {row} on; {hits}")

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "scenario.toml").write_text(SCENARIO)
        for name, factor in [("profile", 1.0)] + [(f"profile-{factor}", factor) for factor in FACTORS]:
            (folder / f"{name}.toml").write_text(PROFILE.format(factor * LARGE_S / STEPS, factor * SMALL_STEP_S))
        rows = (f"{1000 * row}" + ("" if sizes is None else f",{sizes[key]}") for row, key in enumerate(keys))
        header = "arrival_s" + ("" if sizes is None else ",image_bytes")
        (folder / "requests.csv").write_text("\n".join([header, *rows]) + "\n")
        np.save(folder / "keys.npy", vectors[keys])
        settings = [f"cache.capacity{'' if sizes is None else '_bytes'}={capacity}"]
        most = 0
        for policy, published in PUBLISHED.items():
            ours = of_program(binary, folder, policy, settings)
            theirs = of_published(published(capacity, sizes), keys)
            expect(f"{policy} and its pseudocode", ours, theirs)
            done[policy, "pseudocode"] += 1
            if libcachesim is not None and comparable(policy, sizes):
                library = of_library(policy, capacity, keys, sizes)
                if policy == "s3-fifo":
                    # What is left between the two are the departures that the pseudocode can be told to follow.
                    theirs = of_published(S3FifoColdMain(capacity, sizes), keys)
                    expect("s3-fifo filled as libCacheSim fills it, and libCacheSim,", theirs, library)
                else:
                    expect(f"{policy} and libCacheSim", ours, library)
                done[policy, "libCacheSim"] += 1
            if policy == "gdsf" and seed < 5:
                for factor in FACTORS:
                    scaled = of_program(binary, folder, policy, [*settings, f"models.profile=profile-{factor}.toml"])
                    expect(f"gdsf with all service times times {factor}", scaled, ours)
                    done[policy, "scaled"] += 1
            if sizes is None and policy == "farthest" and sum(ours) < most:
                sys.exit(f"{kind} trace {seed}: {most} hits are more than those of who knows the future")
            most = max(most, sum(ours))
    return done


def main():
    binary = Path(sys.argv[1]).resolve()
    if libcachesim is None:
        print(f"without libCacheSim ({MISSING}; pip install libcachesim==0.3.5): compared with the pseudocode alone")
    kinds = ["random", "scanned", "looping", "sized"]
    jobs = [(binary, kind, seed) for kind in kinds for seed in range(TRACES)]
    done = collections.Counter()
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(check, jobs):
            done.update(part)
    for policy in PUBLISHED:
        counts = ", ".join(f"{what} {done[policy, what]}" for what in ("pseudocode", "libCacheSim", "scaled"))
        print(f"{policy:8} equal row by row on traces: {counts}")
    print(f"{sum(done.values())} passed, 0 failed")


if __name__ == "__main__":
    main()

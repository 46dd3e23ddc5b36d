"""Live runs of the acceptance: on one worker, on several, with one that is killed, and of 500 jobs for the memory."""

import csv
import json

import processes
from acceptance import Failed, as_sets

ONE = "live-one"
# Similarity of pictures of models/shapes and their prompts, by the encoder: 0.94 on the CPU, far less of noise.
LEAST_SIMILARITY = 0.9
# Growth that is accepted from the first quarter of the jobs to the last.
MOST_GROWTH_MB = {"resident": 32, "gpu": 64}
JOBS = 500


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def table(file):
    with open(file, newline="") as rows:
        return list(csv.DictReader(rows))


def run(a, name, devices, load, seconds=0, least=20, losses=0, keys=None, watch=None):
    """Runs the scenario and returns its figures.

    The requests arrive at a share, `load`, of what the workers draw without a cache, for so many seconds, and are at
    least so many. Every one has to complete, and no more workers may be lost than `losses`.
    """
    service = next((row for row in (a.profile or {}).get("service", []) if row["model"] == a.large), None)
    full_s = a.steps * service["step_s"] + service["overhead_s"] if service else 0.5
    rate = min(load * len(devices) * 60 / full_s, 6000)
    requests = min(max(round(rate * seconds / 60), least), 3000)
    arrivals = f'{{process="poisson",rate_per_min={rate:.1f}}}'
    trace = {"trace.synthetic.requests": requests, "trace.synthetic.arrivals": arrivals, "live.fit_rate": 0}
    sets = [*a.sets(devices), *as_sets({**trace, **(keys or {})})]
    out = a.scratch / name
    a.expect(a.modm("live", a.scenario, *sets, "--out", out, limit_s=120, watch=watch))
    made = summary(out)
    kept = ("requests", "completed", "failed", "throughput_per_min", "hit_rate", "model_loads", "latency_s", "delays")
    figures = {"rate_per_min": rate, **{key: made.get(key) for key in kept}}
    figures["similarity"] = made.get("quality", {}).get("similarity")
    figures["jobs_by_worker"] = [int(row["jobs"]) for row in table(out / "workers.csv")]
    figures["losses"] = sum(row["state"] == "down" for row in table(out / "absences.csv"))
    figures["warnings"] = json.loads((out / "run.json").read_text())["warnings"]
    if figures["completed"] != figures["requests"]:
        raise Failed(f"{figures['completed']} of {figures['requests']} requests completed", **figures)
    if figures["losses"] > losses:
        raise Failed(f"{figures['losses']} losses of workers, expected {losses}: see warnings", **figures)
    if a.is_default and not (figures["similarity"] or 0) >= LEAST_SIMILARITY:
        found = f"similarity of pictures and prompts {figures['similarity']}"
        raise Failed(f"{found}, expected {LEAST_SIMILARITY} or more", **figures)
    return figures


def words_of(figures):
    latency = figures["latency_s"]
    words = f"{figures['completed']} requests, {figures['throughput_per_min']:.0f} a minute"
    words += f", latency {latency['mean']:.2f} s, p99 {latency['p99']:.2f} s"
    return f"{words}, hits {figures['hit_rate'] or 0:.0%}, similarity {figures['similarity'] or 0:.3f}"


def one(a):
    """Checks a live run on one worker, with the encoder on the same device."""
    figures = run(a, ONE, [a.device], 0.9, seconds=20, keys={"live.encoder_device": f'"{a.device}"'})
    return words_of(figures), figures


def several(a):
    """Checks a live run on several workers that share their devices."""
    figures = run(a, "live-several", a.devices, 0.9, seconds=20)
    if 0 in figures["jobs_by_worker"]:
        raise Failed(f"a worker drew nothing; jobs by worker: {figures['jobs_by_worker']}", **figures)
    return f"{len(a.devices)} workers: {words_of(figures)}", figures


class Killer:
    """Kills a worker process once there are some pictures. A watch for `processes.run`."""

    def __init__(self, store, pictures):
        self.store, self.pictures, self.killed = store, pictures, None

    def __call__(self, pid):
        if self.killed is None and len(list(self.store.glob("*.png"))) >= self.pictures:
            drawing = [process for process, name in processes.workers(pid).items() if name.startswith("worker")]
            if drawing:
                self.killed = min(drawing)
                processes.end([self.killed])


def kill(a):
    """Checks that a worker process that is killed comes back and draws again, and that no request is lost."""
    folder = a.scratch / "kill"
    killer = Killer(folder / "store", pictures=10)
    figures = run(a, "kill", a.devices, 0.5, seconds=25, least=60, losses=1, watch=killer)
    if killer.killed is None:
        raise Failed("the run ended before a worker could be killed", **figures)
    absences, requests = table(folder / "absences.csv"), table(folder / "requests.csv")
    down = next((row for row in absences if row["state"] == "down"), None)
    if down is None:
        raise Failed("a worker process was killed, and no worker was down", **figures)
    own = [row for row in absences if row["worker"] == down["worker"] and row["state"] == "loading"]
    since = float(down["start_s"])
    back = next((float(row["end_s"]) for row in own if float(row["start_s"]) > since), None)
    if back is None:
        raise Failed("the worker did not load its model again", **figures)
    after = sum(row["worker"] == down["worker"] and float(row["start_s"]) >= back for row in requests)
    repeated = sum(int(row["attempts"]) > 1 for row in requests)
    figures |= {"back_s": back - since, "drawn_after": after, "repeated": repeated}
    if not after:
        raise Failed(f"the worker was back after {back - since:.1f} s and drew nothing", **figures)
    words = f"back after {back - since:.1f} s, then {after} pictures; {repeated} requests drawn again"
    return f"{words}, all {figures['completed']} completed", figures


def memory(a):
    """Checks that worker processes do not grow over 500 jobs."""
    watch = processes.Memory(a.on_gpu)
    keys = {"allocation.policy": '"static"'}
    if a.is_default:
        # A job's memory does not depend on its number of steps; with fewer of them there is time for so many jobs.
        keys |= {"models.steps": 20, "system.bounds": "[[0.90,10]]"}
    try:
        figures = run(a, "memory", a.devices, 2.0, least=JOBS + 20, keys=keys, watch=watch)
    finally:
        watch.stop()
    rows, jobs = watch.quarters(), sum(figures["jobs_by_worker"])
    figures |= {"rows": rows, "jobs": jobs}
    if jobs < JOBS:
        raise Failed(f"{jobs} jobs, expected {JOBS}", **figures)
    judged = [row for row in rows if row["process"].startswith("worker")]
    if not any(row["kind"] == "resident" for row in judged):
        raise Failed("no worker process was seen", **figures)
    if not any(row["kind"] == "gpu" for row in judged):
        # In some containers the driver does not say whose memory it is.
        judged += [row for row in rows if row["kind"] == "gpu"]
    words = "; ".join(words_of_memory(row) for row in rows)
    if any(row["last_mb"] - row["first_mb"] > MOST_GROWTH_MB[row["kind"]] for row in judged):
        raise Failed(f"grown: {words}", **figures)
    return f"{jobs} jobs; MB in the first quarter, in the last, greatest: {words}", figures


def words_of_memory(row):
    return f"{row['process']} {row['kind']} {row['first_mb']:.0f}, {row['last_mb']:.0f}, {row['greatest_mb']:.0f}"

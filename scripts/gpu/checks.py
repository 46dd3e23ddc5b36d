"""The checks of the acceptance in their order, and those of them that need neither stored cases nor live runs.

A check returns a sentence and its figures, or raises Failed. One that measures and judges nothing returns Told.
"""

import re
import tomllib

import live
import parity
from acceptance import Failed, Skipped, Told, as_sets
from machine import packages_of

# Families whose steps are timed in each precision: one with a UNet and one with a transformer.
TIMED = ("sdxl", "flux-dev")
SCENARIO = """name = "{precision}"
[trace.synthetic]
requests = 10
arrivals = {{ process = "poisson", rate_per_min = 60 }}
[trace.synthetic.prompts]
vocabulary = "shapes"
[cluster]
gpus = [{{ type = "{kind}", count = 1 }}]
[models]
large = "{large}"
small = [{small}]
steps = 20
[system]
policy = "modm"
bounds = [[0.90, 10]]
[live]
devices = ["{device}"]
size = [64, 64]
encoder = "{encoder}"
[live.models]
{models}
"""


def machine(a):
    """Checks that there is a GPU, that the bundle has code for it, and that NVIDIA's libraries are found."""
    told = a.machine
    if not a.on_gpu:
        return f"{told['processor']}, {told['cores']} cores; no GPU is used", {}
    a.run(["nvidia-smi"], 20)
    figures = {"libraries": a.libraries, "packages": packages_of(a.libraries)}
    if not told["gpus"]:
        raise Failed("nvidia-smi sees no GPU: NVIDIA's driver is needed; --device cpu:0 checks the CPU", **figures)
    if absent := [name for name, place in a.libraries.items() if place is None]:
        raise Failed(f"not found: {', '.join(absent)}; --cuda FOLDER names a folder that has them", **figures)
    for gpu in told["gpus"]:
        has, bundle = gpu["compute_cap"].replace(".", ""), told["bundle"]
        if bundle and has != str(bundle["architecture"]):
            found = f"the {gpu['name']} is sm_{has}, and the bundle has code for sm_{bundle['architecture']}"
            raise Failed(f"{found}: make another with scripts/gpu_bundle --arch {has}", **figures)
    names = ", ".join(f"{gpu['name']} (driver {gpu['driver_version']})" for gpu in told["gpus"])
    return f"{names}; all {len(a.libraries)} libraries found", figures


def doctor(a):
    """Checks that library, device, models and encoder open, and that a trial picture is finite."""
    outcome = a.modm("doctor", a.scenario, *a.sets([a.device]), limit_s=90)
    a.expect(outcome)
    pattern = r"^ok +model +(\S+): .*loaded in ([\d.]+) s, a trial picture in ([\d.]+) s"
    models = re.findall(pattern, outcome.output, re.MULTILINE)
    words = ", ".join(f"{name} in {load} s, a trial picture in {trial} s" for name, load, trial in models)
    return f"loaded {words}", {name: {"load_s": float(load), "trial_s": float(trial)} for name, load, trial in models}


def profile(a):
    """Measures the scenario's models on one worker. The live runs take their rates and limits from it."""
    out = a.out / "profile.toml"
    jobs = ("--rounds", "1", "--jobs", "10", "--batch", "1", "--force")
    a.expect(a.modm("profile", a.scenario, *a.sets([a.device], profiled=False), *jobs, "--out", out, limit_s=90))
    a.profile = tomllib.loads(out.read_text())
    steps = ", ".join(f"{row['model']} {row['step_s'] * 1e3:.2f} ms" for row in a.profile["service"])
    return f"a step takes: {steps}", {key: a.profile[key] for key in ("source", "service")}


def step_overhead(a):
    """Tells what a step of the pipeline costs beside its session alone."""
    if not a.profile:
        raise Skipped("there is no profile to take it from")
    rows = overheads(a.profile)
    return Told("; ".join(words_of(row) for row in rows if row["batch"] == 1), {"rows": rows})


def overheads(measured):
    """Returns the medians of a profile that are of a step and of its session alone, with their difference."""
    rows = []
    for row in measured.get("measurement", []):
        step, bare = row["step_s"], row.get("bare_step_s")
        if bare and row["neighbours"] == "idle":
            figures = {"model": row["model"], "batch": row["batch"], "step_ms": step * 1e3, "bare_ms": bare * 1e3}
            rows.append({**figures, "overhead_us": (step - bare) * 1e6, "share": (step - bare) / bare})
    return rows


def words_of(row):
    return f"{row['model']} {row['step_ms']:.2f} ms, {row['overhead_us']:+.0f} µs ({row['share']:+.1%})"


def steps_in(precision):
    """Returns the check that tells what a step costs in a precision, on tiny models of real architectures."""

    def check(a):
        models = {family: parity.assemble(a, family, precision) for family in TIMED}
        models = {family: folder for family, folder in models.items() if folder}
        if not models:
            raise Skipped("there are no models in it")
        file, out = a.scratch / f"{precision}.toml", a.scratch / f"{precision}-profile.toml"
        large, *small = models
        words = {"precision": precision, "kind": a.kind, "device": a.device, "large": large}
        words |= {"small": ", ".join(f'"{name}"' for name in small), "encoder": a.root / "models/shapes/encoder"}
        words |= {"models": "\n".join(f'{name} = "{folder}"' for name, folder in models.items())}
        file.write_text(SCENARIO.format(**words))
        a.expect(a.modm("profile", file, "--rounds", "1", "--jobs", "4", "--batch", "1", "--out", out, limit_s=75))
        rows = overheads(tomllib.loads(out.read_text()))
        return Told("; ".join(words_of(row) for row in rows), {"rows": rows})

    return check


def simulated(a):
    """Tells how far the simulator is off on the requests of the run on one worker, with the delays measured there."""
    run, out = a.scratch / live.ONE, a.scratch / "simulated"
    if not (run / "summary.json").is_file():
        raise Skipped("there is no live run to simulate")
    measured = live.summary(run)
    files = {"requests": "requests.csv"}
    files |= {key: f"{key}.npy" for key in ("prompt_embeddings", "image_embeddings")}
    there = {key: run / "trace" / name for key, name in files.items() if (run / "trace" / name).is_file()}
    replayed = ",".join(f'{key}="{file}"' for key, file in there.items())
    delays = {key: delay.get("mean", 0) for key, delay in measured.get("delays", {}).items()}
    keys = {"trace": f"{{{replayed}}}", "retrieval.latency_s": delays.get("prompt_encoding_s", 0)}
    keys |= {"retrieval.image_latency_s": delays.get("image_encoding_s", 0)}
    sets = [*a.sets([a.device]), *as_sets(keys)]
    a.expect(a.modm("simulate", a.scenario, *sets, "--no-range", "--out", out, limit_s=30))
    both = (measured, live.summary(out))
    figures = {key: [one.get(key) for one in both] for key in ("throughput_per_min", "hit_rate", "model_loads")}
    figures |= {f"latency_{key}_s": [one["latency_s"][key] for one in both] for key in ("mean", "p50", "p99")}
    words = (f"{name} {one:.4g} and {two:.4g}" for name, (one, two) in figures.items())
    return Told(f"live and simulated: {', '.join(words)}", figures)


# Name and check. Where time runs out, the last ones are left out.
CHECKS = (
    ("machine", machine),
    ("doctor", doctor),
    ("parity", parity.parity),
    ("profile", profile),
    ("overhead of a step", step_overhead),
    ("live, one worker", live.one),
    ("the same simulated", simulated),
    ("live, several workers", live.several),
    ("kill and recover", live.kill),
    ("memory", live.memory),
    ("steps in fp16", steps_in("fp16")),
    ("steps in bf16", steps_in("bf16")),
    ("steps in fp32", steps_in("fp32")),
)

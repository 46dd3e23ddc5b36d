"""Parity with diffusers: `modm parity` on the tiny models and the stored cases of tests/parity, in every precision."""

import concurrent.futures
import json
import os
import shutil
import time

from acceptance import Failed, Skipped

# Each family: the folder of its model, the folder of files that lie over it, and what is left out of it.
FAMILIES = {
    "sdxl": ("sdxl", None, ()),
    "sd3": ("sd3", None, ()),
    "sd3-no-t5": ("sd3", None, ("text_encoder_3", "tokenizer_3")),
    "flux-dev": ("flux-dev", None, ()),
    "flux-schnell": ("flux-dev", "flux-schnell", ()),
    "sana": ("sana", None, ()),
}
TOLERANCES = {"fp32": 1e-4, "fp16": 6e-2}
# A first guess for arithmetic in bfloat16, which only a GPU does. It is told and not judged.
BF16_GUESS = 0.25
# Limit of one comparison, and of all of them, so that time is left for the other checks.
ONE_S, ALL_S = 60, 120


def assemble(a, family, precision):
    """Returns the folder of a family's model, or None if it has none in this precision. Some are put together here."""
    base, over, omitted = FAMILIES[family]
    name = "model" if precision == "fp32" else f"model-{precision}"
    sources = [a.cases / folder / name for folder in (base, over) if folder]
    if not all(source.is_dir() for source in sources):
        return None
    if family == base:
        return sources[0]
    target = a.scratch / "models" / family / name
    for source in sources:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*omitted), dirs_exist_ok=True)
    if omitted:
        shutil.copy(a.cases / family / "model_index.json", target)
    return target


def comparisons(a):
    """Yields what is to be compared: family, precision, model, cases, tolerance, and whether it is judged."""
    for family in FAMILIES:
        cases, rounded = a.cases / family / "cases.json", a.cases / family / "cases-bf16.json"
        for precision, tolerance in TOLERANCES.items():
            if model := assemble(a, family, precision):
                yield family, precision, model, cases, tolerance, True
        if model := assemble(a, family, "bf16"):
            # `rounded` is of the same weights in single precision, which is what the CPU computes in.
            if a.on_gpu:
                yield family, "bf16", model, rounded if rounded.is_file() else cases, BF16_GUESS, False
            elif rounded.is_file():
                yield family, "bf16", model, rounded, TOLERANCES["fp32"], True


def compare(a, comparison, end):
    """Makes a comparison, before `end` at the latest, and returns its row of figures."""
    family, precision, model, cases, tolerance, judged = comparison
    row = {"family": family, "precision": precision, "tolerance": tolerance, "judged": judged}
    written = a.scratch / f"parity-{family}-{precision}.json"
    arguments = ("--device", a.device, "--tolerance", tolerance, "--json", written)
    try:
        outcome = a.modm("parity", model, cases, *arguments, limit_s=min(end - time.monotonic(), ONE_S))
    except Skipped as reason:
        return row | {"judged": True, "within": False, "error": str(reason)}
    row |= {"within": outcome.code == 0, "seconds": round(outcome.seconds, 2)}
    try:
        found = json.loads(written.read_text())["cases"]
        greatest = {key: max(float(case[key]) for case in found) for key in ("latents", "picture")}
        return row | {"cases": len(found), **greatest}
    except (OSError, ValueError, TypeError, KeyError):
        # There is no file, or null in it for a number that is not finite.
        return row | {"judged": True, "within": False, "error": a.last_words(outcome)}


def parity(a):
    """Checks that every family draws what diffusers drew, in every precision that there are models of."""
    end = time.monotonic() + ALL_S
    # Most of the time goes into opening CUDA, which several processes can do side by side.
    with concurrent.futures.ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 1) // 2))) as pool:
        rows = list(pool.map(lambda comparison: compare(a, comparison, end), list(comparisons(a))))
    beyond = [f"{row['family']} {row['precision']}" for row in rows if row["judged"] and not row["within"]]
    if not rows:
        raise Failed(f"there are no cases in {a.cases}")
    if beyond:
        raise Failed(f"beyond the tolerance, or without a result: {', '.join(beyond)}", rows=rows)
    worst = {}
    for row in rows:
        worst[row["precision"]] = max(worst.get(row["precision"], 0), row["latents"], row["picture"])
    words = ", ".join(f"{precision} {value:.1e}" for precision, value in worst.items())
    return f"{sum(row['cases'] for row in rows)} cases; greatest difference: {words}", {"rows": rows}

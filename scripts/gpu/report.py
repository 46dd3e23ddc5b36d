"""Writes the results of the acceptance: report.json for programs, report.md for people, one page."""

import json

DASH = "-"


def write(report, out):
    """Writes both files anew; whoever reads them meanwhile finds the ones before."""
    for name, text in (("report.json", json.dumps(report, indent=1) + "\n"), ("report.md", page(report))):
        fresh = out / f"{name}.new"
        fresh.write_text(text)
        fresh.replace(out / name)


def page(report):
    machine, checks = report["machine"], report["checks"]
    counts = {
        word: sum(check["status"] == word for check in checks) for word in ("passed", "failed", "told", "skipped")
    }
    lines = [f"# Acceptance of live mode on {report['device']}", ""]
    lines += [
        ", ".join(f"{count} {word}" for word, count in counts.items() if count) + f", in {report['seconds']:.0f} s",
        "",
    ]
    lines += table(("what", ""), identity(report, machine)) + [""]
    rows = [(check["name"], check["status"], f"{check['seconds']:.1f}", check["summary"]) for check in checks]
    lines += table(("check", "result", "s", "figures"), rows)
    figures = {check["name"]: check["figures"] for check in checks}
    if rows := figures.get("parity", {}).get("rows"):
        lines += ["", "Parity with diffusers, greatest difference of any case, as a share of the greatest value:", ""]
        lines += table(("family", "precision", "cases", "latents", "picture", "tolerance", ""), map(parity_row, rows))
    steps = [
        (name, row)
        for name in figures
        if name.startswith(("overhead", "steps in"))
        for row in figures[name].get("rows", [])
    ]
    if steps:
        lines += ["", "A step of the pipeline, and of its session alone:", ""]
        lines += table(("models", "model", "batch", "step ms", "bare ms", "difference µs", ""), map(step_row, steps))
    lines += ["", "Commands and what they said: `log.txt`; all figures: `report.json`. Told: measured, not judged.", ""]
    return "\n".join(lines)


def identity(report, machine):
    bundle = machine["bundle"]
    made = f", bundle for sm_{bundle['architecture']} of {bundle['made']}" if bundle else ""
    yield "program", f"{machine['program']}, commit {report['commit'] or 'unknown'}{made}"
    yield "ONNX Runtime", machine["onnxruntime"]
    for gpu in machine["gpus"]:
        memory = f"{gpu['memory.total']} MiB, {gpu['memory.used']} in use before"
        yield (
            f"GPU {gpu['index']}",
            f"{gpu['name']}, sm_{gpu['compute_cap'].replace('.', '')}, driver {gpu['driver_version']}, {memory}",
        )
    yield "machine", f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['system']}"
    yield "date", report["date"]


def parity_row(row):
    verdict = "within" if row["within"] else "beyond"
    verdict = row.get("error") or (verdict if row["judged"] else f"{verdict}, not judged")
    shown = [f"{row[key]:.1e}" if key in row else DASH for key in ("latents", "picture")]
    return row["family"], row["precision"], row.get("cases", DASH), *shown, f"{row['tolerance']:g}", verdict


def step_row(named):
    name, row = named
    of = "scenario" if name.startswith("overhead") else name.removeprefix("steps in ")
    times = (f"{row['step_ms']:.3f}", f"{row['bare_ms']:.3f}", f"{row['overhead_us']:+.0f}", f"{row['share']:+.1%}")
    return of, row["model"], row["batch"], *times


def table(head, rows):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]

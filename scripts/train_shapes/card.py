"""Writes what `evaluate.py` measured and what `export.py` noted into the model card: tables as Markdown, curves as
a picture."""

import json

import world

KINDS = ("one object", "two objects")
BEGIN, END = "<!-- measured: {}, written by scripts/train_shapes/card.py -->", "<!-- end of {} -->"


def table(header, rows):
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def percent(value):
    return f"{100 * value:.1f} %"


def generators(quality):
    rows = []
    for name, found in quality["generators"].items():
        if "attributes" not in found:
            rows.append([name, str(found["n"]), "", "", f"{found['distance']:.4f}", ""])
            continue
        each = ", ".join(f"{attribute} {100 * found[attribute]:.1f}" for attribute in world.ATTRIBUTES if attribute in found)
        rows.append([name, str(found["n"]), percent(found["attributes"]), f"{percent(found['all right'])} ± {100 * found['+-']:.1f}", f"{found['distance']:.4f}", each])
    return table(["model, scenes", "n", "attributes right", "all right", "distance", "each, %"], rows)


def steps(quality):
    found = quality["steps_ms"]
    rows = [[name, f"{times['median']:.2f}", f"{times['least']:.2f}", f"{times['median'] / found['large']['median']:.3f}"] for name, times in found.items()]
    return table(["model", "median ms", "least ms", "of the large one's"], rows)


def guidance(quality):
    scales = list(next(iter(quality["guidance"].values())))
    rows = [[name, *(percent(found[scale]) for scale in scales)] for name, found in quality["guidance"].items()]
    return table(["all right at guidance", *(f"{float(scale):g}" for scale in scales)], rows)


def encoder(quality):
    rows = []
    for kind, found in quality["encoder"].items():
        near = ("1 edit", "2 edits", "swap")
        rows.append([kind, str(found["n"]), percent(found["R@1"]), percent(found["R@1 paraphrased"]), f"{found['own']:.3f}",
                     *(f"{found[name]:.3f} ({percent(found[f'own above {name}'])})" for name in near), f"{found['unrelated']:.3f}"])
    return table(["scenes", "n", "R@1", "R@1, other words", "own picture", "1 edit (own above)", "2 edits (own above)", "swapped (own above)", "unrelated"], rows)


def judge(quality):
    found = quality["judge"]
    return table(["unseen pictures", "all right", "half-way shapes refused"], [[str(found["n"]), percent(found["all right"]), percent(found["half-way shapes refused"])]])


def idea(quality):
    skipped = list(next(iter(quality["idea"].values()))["by k"])
    rows = [[name, str(found["n"]), f"{found['similarity']:.2f}", percent(found["large"]), percent(found["as it is"]),
             *(f"{100 * found['by k'][k]:.1f}" for k in skipped)] for name, found in quality["idea"].items()]
    return table(["who refines, scenes, cached picture", "n", "similarity", "large alone", "as it is", *(f"k = {k}" for k in skipped)], rows)


def edits(quality):
    skipped = list(next(iter(quality["edits"].values()))["by k"])
    rows = [[name, str(found["n"]), *(f"{100 * found['by k'][k]:.0f}" for k in skipped)] for name, found in quality["edits"].items()]
    return table(["who refines, what differs", "n", *(f"k = {k}" for k in skipped)], rows)


def sharpness(quality):
    skipped = list(next(iter(quality["idea"].values()))["by k"])
    rows = [[name, f"{found['large distance']:.3f}", *(f"{found['distance by k'][k]:.3f}" for k in skipped)] for name, found in quality["idea"].items()]
    return table(["who refines, scenes, cached picture", "large alone", *(f"k = {k}" for k in skipped)], rows)


def training(quality):
    rows = [[name, f"{made['parameters'] / 1e6:.2f} M", str(made["steps"]), str(made["batch"]), f"{made['steps'] * made['batch'] / 1000:.0f},000", f"{made['rate']:g}", f"{made['minutes']:.0f}"]
            for name, made in quality["training"].items()]
    return table(["model", "parameters", "steps", "batch", "pictures", "rate", "minutes"], rows)


def bounds(quality):
    skipped = list(next(iter(quality["bounds"].values())))
    show = lambda bound: "none" if bound is None else f"{bound:.3f}"
    rows = [[refiner, *(show(found[k]) for k in skipped)] for refiner, found in quality["bounds"].items()]
    return table(["lowest similarity for k", *skipped], rows)


SECTIONS = {"generators": generators, "steps": steps, "guidance": guidance, "encoder": encoder, "judge": judge, "idea": idea, "edits": edits, "sharpness": sharpness, "bounds": bounds, "training": training}


def filled(text, quality):
    """The card with its measured sections as `quality` has them."""
    for name, section in SECTIONS.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{section(quality)}\n{end}{rest.split(end)[1]}"
    return text


def curves(quality, path):
    """Quality over skipped steps: a row for each model that refines, a column for each kind of scene."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    refiners = list(quality["bounds"])
    figure, panels = pyplot.subplots(len(refiners), 2, figsize=(11, 3.8 * len(refiners)), sharex=True, sharey=True)
    for row, refiner in enumerate(refiners):
        for column, kind in enumerate(KINDS):
            panel = panels[row, column]
            start = f"{refiner}, {kind}, "
            for name, found in quality["idea"].items():
                if name.startswith(start):
                    ks, values = [int(k) for k in found["by k"]], [100 * value for value in found["by k"].values()]
                    panel.plot(ks, values, marker="o", markersize=3, label=f"refines: {name.removeprefix(start)}")
                    large, alone = 100 * found["large"], values[0]
            panel.axhline(large, color="black", linewidth=1, label="large alone")
            panel.axhline(alone, color="black", linewidth=1, linestyle=":", label=f"{refiner} alone")
            panel.set(title=f"{refiner}, {kind}", ylim=(0, 102))
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7, loc="best")
        panels[row, 0].set_ylabel("pictures with all attributes right, %")
    for panel in panels[-1]:
        panel.set_xlabel("steps skipped of 50")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def measured():
    """What is known of the models: measured, and how they were made."""
    read = lambda name: json.loads((world.FOLDER / name).read_text())
    return read("quality.json") | {"training": read("training.json")}


def main():
    quality, path = measured(), world.FOLDER / "README.md"
    path.write_text(filled(path.read_text(), quality))
    curves(quality, world.FOLDER / "img" / "idea.png")


if __name__ == "__main__":
    main()

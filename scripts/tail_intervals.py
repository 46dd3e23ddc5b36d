"""Prints how often Student's 95 % interval over seeds covers the mean of a per-seed percentile, against the number of seeds,
for light and heavy tails; and how often reports mark it as unreliable (`~`), by the rule of src/report/statistics.rs.

    python scripts/tail_intervals.py [--draws 40000]

`covers`: share of all intervals that hold the mean; 0.95 is claimed. `marked`: share that the rule marks. `passes and misses`:
share that it does not mark and that do not hold the mean.
"""

import argparse

import numpy as np

# As src/report/statistics.rs has them.
FEWEST, MANY = 5, 30
T = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262, 20: 2.093, 30: 2.045, 60: 2.001, 120: 1.980}


def lognormal(sigma):
    return lambda rng, size: rng.lognormal(0, sigma, size), np.exp(sigma**2 / 2)


def pareto(alpha):
    return lambda rng, size: rng.pareto(alpha, size) + 1, alpha / (alpha - 1)


def normal(cv):
    return lambda rng, size: rng.normal(1, cv, size), 1.0


PERCENTILES = {
    "normal, cv 0.05": normal(0.05),
    "normal, cv 0.2": normal(0.2),
    "lognormal, sigma 0.3": lognormal(0.3),
    "lognormal, sigma 1": lognormal(1),
    "lognormal, sigma 2": lognormal(2),
    "Pareto, alpha 3": pareto(3),
    "Pareto, alpha 2": pareto(2),
    "Pareto, alpha 1.5": pareto(1.5),
    "Pareto, alpha 1.2": pareto(1.2),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40_000, help="sets of seeds drawn for each row")
    draws = parser.parse_args().draws
    rng = np.random.default_rng(1)
    print("| percentile of each seed | seeds | covers | marked | passes and misses |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (draw, truth) in PERCENTILES.items():
        for seeds, t in T.items():
            values = draw(rng, (draws, seeds))
            mean, deviation = values.mean(1), values.std(1, ddof=1)
            covers = np.abs(mean - truth) <= t * deviation / np.sqrt(seeds)
            most = 0.1 if seeds < MANY else 0.25
            marked = (deviation > most * mean) | (seeds < FEWEST)
            passes_and_misses = (~marked & ~covers).mean()
            print(f"| {name} | {seeds} | {covers.mean():.2f} | {marked.mean():.2f} | {passes_and_misses:.3f} |")


if __name__ == "__main__":
    main()

"""Times our default index and FAISS' IndexFlatIP on the same vectors, in turns, and prints both with their ratio.

Run by `scripts/bench_index`. A line of JSON for each kind and number of vectors (`--json`), or a table.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

TURNS = 3


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def isotropic(rng, n, dimension):
    return unit(rng.standard_normal((n, dimension), np.float32))


def clustered(rng, n, dimension):
    """As embeddings of a trace are: a common direction, topics around it, and near repeats within each topic."""
    topics = max(1, n // 50)
    common = rng.standard_normal(dimension, np.float32)
    centres = common + rng.standard_normal((topics, dimension), np.float32)
    return unit(centres[rng.integers(topics, size=n)] + 0.3 * rng.standard_normal((n, dimension), np.float32))


def time_faiss(vectors, queries):
    """Median milliseconds of a search, of insert + remove the oldest + search, and what was found."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    seconds, ids, similarities = [], [], []
    for query in queries:
        begun = time.perf_counter()
        similarity, found = index.search(query[None], 1)
        seconds.append(time.perf_counter() - begun)
        ids.append(int(found[0, 0]))
        similarities.append(float(similarity[0, 0]))
    churn = []
    oldest = np.zeros(1, np.int64)
    for query in queries:
        begun = time.perf_counter()
        index.add(query[None])
        index.remove_ids(faiss.IDSelectorBatch(oldest))
        index.search(query[None], 1)
        churn.append(time.perf_counter() - begun)
    return 1000 * np.median(seconds), 1000 * np.median(churn), ids, similarities


def measure(binary, folder, kind, vectors, queries):
    files = folder / "vectors.npy", folder / "queries.npy"
    for file, values in zip(files, (vectors, queries)):
        np.save(file, values)
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(json.loads(subprocess.run([binary, *files], check=True, capture_output=True, text=True).stdout))
        theirs.append(time_faiss(vectors, queries))
    ids, similarities = ours[0]["ids"], np.array(ours[0]["similarities"])
    same = sum(int(a) == b or abs(x - y) <= 1e-6 for a, b, x, y in zip(ids, theirs[0][2], similarities, theirs[0][3]))
    n, dimension = vectors.shape
    ours_ms, faiss_ms = min(run["ms"] for run in ours), min(run[0] for run in theirs)
    churn_ms, faiss_churn_ms = min(run["churn_ms"] for run in ours), min(run[1] for run in theirs)
    bandwidth = max(run["bandwidth_gb_s"] for run in ours)
    return {
        "data": kind, "vectors": n, "dimension": dimension, "ours_ms": ours_ms, "faiss_ms": faiss_ms, "ratio": faiss_ms / ours_ms,
        "same_ids": same / len(queries), "bytes_per_query": n * dimension, "bandwidth_gb_s": bandwidth,
        "gap_to_bandwidth": ours_ms / (n * dimension / bandwidth / 1e6),
        "churn_ours_ms": churn_ms, "churn_faiss_ms": faiss_churn_ms, "churn_ratio": faiss_churn_ms / churn_ms,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--vectors", default="10000,100000,1000000")
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--queries", type=int, default=50)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    for n in map(int, arguments.vectors.split(",")):
        for kind in (isotropic, clustered):
            rng = np.random.default_rng(n)
            vectors = kind(rng, n + arguments.queries, arguments.dimension).astype(np.float32)
            # The last ones are asked for and not stored: in clusters they have many near neighbours.
            vectors, queries = vectors[:n], vectors[n:]
            with tempfile.TemporaryDirectory() as folder:
                row = measure(arguments.binary, Path(folder), kind.__name__, vectors, queries)
            print(json.dumps(row) if arguments.json else ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()

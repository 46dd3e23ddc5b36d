"""Times our default index and FAISS' IndexFlatIP on the same vectors, in turns, and prints both with their ratio; with
`--faiss` also our indexes of FAISS beside the same ones of the wheel, with the recall of both.

Run by `scripts/bench_index`. A line of JSON for each kind of data, number of vectors and index (`--json`), or a table.
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
# As src/retrieval/faiss/inverted_lists.rs has it.
TRAINING_ROWS = 39


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


def lists_of(n):
    """As src/retrieval/faiss/inverted_lists.rs has it; 0 where there are too few vectors for lists."""
    lists = min(int(2 * n**0.5), n // TRAINING_ROWS)
    return lists if lists >= 64 else 0


def probes_of(lists):
    return max(lists // 4, 16)


def wheels_index(kind, vectors):
    """The wheel's index of the kind that ours is, trained and filled, and the seconds that took."""
    lists = lists_of(len(vectors))
    names = {"faiss-flat": "Flat", "faiss-hnsw": "HNSW32,Flat"}
    if lists:
        names |= {"faiss-ivf": f"IVF{lists},Flat", "faiss-ivf-sq8": f"IVF{lists},SQ8"}
    index = faiss.index_factory(vectors.shape[1], names.get(kind, "Flat"), faiss.METRIC_INNER_PRODUCT)
    if kind == "faiss-hnsw":
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 256
    begun = time.perf_counter()
    if lists and "ivf" in kind:
        index.nprobe = probes_of(lists)
        index.train(np.ascontiguousarray(vectors[:: max(1, len(vectors) // (TRAINING_ROWS * lists))]))
    index.add(vectors)
    return index, time.perf_counter() - begun


def time_faiss(vectors, queries, kind="faiss-flat"):
    """Median milliseconds of a search, of insert + remove the oldest + search, what was found, and seconds of inserting.
    Graphs cannot remove: no milliseconds for them."""
    index, insert_s = wheels_index(kind, vectors)
    numbered = "ivf" in kind and lists_of(len(vectors)) > 0
    seconds, ids, similarities = [], [], []
    for query in queries:
        begun = time.perf_counter()
        similarity, found = index.search(query[None], 1)
        seconds.append(time.perf_counter() - begun)
        ids.append(int(found[0, 0]))
        similarities.append(float(similarity[0, 0]))
    churn = []
    if kind == "faiss-hnsw":
        return 1000 * np.median(seconds), None, ids, similarities, insert_s
    for row, query in enumerate(queries):
        # A flat index numbers its rows anew when one leaves.
        oldest = np.array([row if numbered else 0], np.int64)
        begun = time.perf_counter()
        index.add(query[None])
        index.remove_ids(faiss.IDSelectorBatch(oldest))
        index.search(query[None], 1)
        churn.append(time.perf_counter() - begun)
    return 1000 * np.median(seconds), 1000 * np.median(churn), ids, similarities, insert_s


def run_ours(binary, files, kind="exact"):
    command = [binary, *files, "--index", kind]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(binary, folder, kind, vectors, queries):
    files = folder / "vectors.npy", folder / "queries.npy"
    for file, values in zip(files, (vectors, queries)):
        np.save(file, values)
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(run_ours(binary, files))
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


def recall(run_ids, run_similarities, exact):
    """Share of the queries whose answer is the exact one, or as similar."""
    pairs = zip(run_ids, run_similarities, exact["ids"], exact["similarities"])
    return sum(int(a) == int(b) or x >= y - 1e-6 for a, x, b, y in pairs) / len(exact["ids"])


def measure_kind(binary, folder, data, kind, vectors, queries):
    """One of our indexes of FAISS beside the wheel's, on the files that `measure` left."""
    files = folder / "vectors.npy", folder / "queries.npy"
    exact = run_ours(binary, files)
    # The wheel rounds similarities its own way: its answers are compared in ours.
    found = lambda ids: (vectors[ids].astype(np.float64) * queries).sum(axis=1)
    ours, theirs = run_ours(binary, files, kind), time_faiss(vectors, queries, kind)
    n, dimension = vectors.shape
    row = {
        "data": data, "index": kind, "vectors": n, "dimension": dimension, "ours_ms": ours["ms"], "faiss_ms": theirs[0],
        "ratio": theirs[0] / ours["ms"], "recall_ours": recall(ours["ids"], ours["similarities"], exact),
        "recall_faiss": recall(theirs[2], found(theirs[2]), exact), "churn_ours_ms": ours["churn_ms"],
        "insert_ours_s": ours["insert_s"], "insert_faiss_s": theirs[4],
    }
    if theirs[1] is not None:
        row |= {"churn_faiss_ms": theirs[1], "churn_ratio": theirs[1] / ours["churn_ms"]}
    if "ivf" in kind:
        row |= {"lists": lists_of(n), "probes": probes_of(lists_of(n))}
    return row


def show(row, as_json):
    text = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    print(json.dumps(row) if as_json else text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--vectors", default="10000,100000,1000000")
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--faiss", action="store_true", help="also our indexes of FAISS; the binary has them")
    parser.add_argument("--kinds", default="faiss-ivf", help="which of them, with commas between")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    for n in map(int, arguments.vectors.split(",")):
        for kind in (isotropic, clustered):
            rng = np.random.default_rng(n)
            vectors = kind(rng, n + arguments.queries, arguments.dimension).astype(np.float32)
            # The last ones are asked for and not stored: in clusters they have many near neighbours.
            vectors, queries = vectors[:n], vectors[n:]
            with tempfile.TemporaryDirectory() as folder:
                show(measure(arguments.binary, Path(folder), kind.__name__, vectors, queries), arguments.json)
                for index in arguments.kinds.split(",") if arguments.faiss else ():
                    row = measure_kind(arguments.binary, Path(folder), kind.__name__, index, vectors, queries)
                    show(row, arguments.json)


if __name__ == "__main__":
    main()

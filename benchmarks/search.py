"""Search quality and speed: by words, by meaning and both, on Cranfield and on judged queries over the paper index.

``python benchmarks/search.py --encoder FOLDER [--data FOLDER] [--speed N]``; the encoder is a folder as transformers
writes it. Cranfield needs the data collection; the judged queries stand beside this file.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

from corrigible.data import TextEncoder
from corrigible.errors import MissingDependencyError
from corrigible.library import Page, Record
from corrigible.library._database import Database
from corrigible.library._own_index import load_own_index
from corrigible.library._papers import add_page
from corrigible.library._schema import papers
from corrigible.library._search import search
from corrigible.library._vectors import Vectors
from corrigible.library._word_index import WordIndex
from corrigible.papers import index

WAYS = ("words", "meaning", "both")
DEPTH = 10


def ndcg(ranked: list[str], gains: dict[str, float]) -> float:
    """Normalised discounted cumulative gain at 10."""
    ideal = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(gains.values(), reverse=True)[:DEPTH]))
    return sum(gains.get(d, 0.0) / np.log2(i + 2) for i, d in enumerate(ranked[:DEPTH])) / ideal


def recall(ranked: list[str], gains: dict[str, float]) -> float:
    """Share of what is relevant among the first hundred."""
    return len(set(ranked[:100]) & set(gains)) / len(gains)


def measure(name, database, vectors, judged):
    index = word_index(database, vectors.path.parent / name)
    with database.read() as connection:
        keys = dict(connection.execute(sa.select(papers.c.id, papers.c.key)).all())
        found = {
            way: [
                [keys[i] for i in search(connection, q, vectors=vectors, way=way, limit=100).ids] for q, _ in judged
            ]
            for way in WAYS
        }
        if index:
            found["tantivy"] = [[keys[i] for i, _ in index.rank(connection, q, limit=100)] for q, _ in judged]
    score = {w: np.array([ndcg(r, g) for r, (_, g) in zip(found[w], judged, strict=True)]) for w in found}
    print(f"\n{name}: {len(judged)} queries")
    for way in found:
        low, high = interval(score[way])
        r100 = np.mean([recall(r, g) for r, (_, g) in zip(found[way], judged, strict=True)])
        print(f"  {way:>8}: nDCG@10 {score[way].mean():.3f} [{low:.3f}, {high:.3f}], recall@100 {r100:.3f}")
    for other in ("words", "meaning"):
        gap = score["both"] - score[other]
        low, high = interval(gap)
        print(f"  both less {other}: {gap.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


def word_index(database, folder):
    """The index of tantivy, where that is installed."""
    try:
        index = WordIndex(database, folder)
    except MissingDependencyError:
        return None
    index.update()
    return index


def interval(values):
    """Percentile interval of the mean over queries."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (5000, len(values))).mean(axis=1)
    return np.quantile(means, [0.025, 0.975])


def cranfield(folder, encode, data):
    docs, queries = pd.read_parquet(data / "docs.parquet"), pd.read_csv(data / "queries.csv.gz")
    qrels = pd.read_csv(data / "qrels.csv.gz")
    database = Database(str(folder / "cranfield.db"))
    key, title, text = docs.columns[0], "title", next(c for c in docs.columns if c in ("text", "abstract", "body"))
    records = tuple(
        Record(key=f"doc:{d[key]}", title=str(d[title]) or "-", abstract=str(d[text]), door="bibtex")
        for d in docs.to_dict("records")
    )
    with database.write() as connection:
        add_page(connection, Page(records=records), door="bibtex", raw=b"")
    vectors = Vectors(database, folder, encode, model="cranfield")
    vectors.update()
    qid, did, code = qrels.columns[:3]
    judged = []
    for query in queries.to_dict("records"):
        of = qrels[qrels[qid] == query[queries.columns[0]]]
        judged.append((query[next(c for c in queries.columns if c in ("text", "query"))],
                       {f"doc:{d}": 1.0 for d in of[did]}))  # fmt: skip
    measure("Cranfield", database, vectors, [j for j in judged if j[1]])
    database.close()
    _ = code  # every judged document counts as relevant, also code -1: see the collection's own notes


def own_index(folder, encode):
    database = Database(str(folder / "own.db"))
    with database.write() as connection:
        load_own_index(connection)
    vectors = Vectors(database, folder, encode, model="own")
    vectors.update()
    with open(Path(__file__).parent / "judged_queries.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    judged = [(r["query"], {f"index:{s}": 1.0 for s in r["relevant"].split(",")}) for r in rows]
    unknown = {k for _, g in judged for k in g} - {f"index:{s}" for s in index()}
    assert not unknown, unknown
    measure("Own index", database, vectors, judged)
    database.close()


def speed(folder, n):
    """Milliseconds a query over a store of made-up abstracts, words of a Zipf law, beside other engines that are there."""
    database, rng = Database(str(folder / "speed.db")), np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(50_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()
    texts = []
    for start in range(0, n, 5000):
        drawn = [" ".join(row) for row in rng.choice(words, (min(5000, n - start), 160), p=weights)]
        records = tuple(
            Record(key=f"bibtex:{start + i}", title=text[:60], abstract=text[60:], door="bibtex")
            for i, text in enumerate(drawn)
        )
        with database.write() as connection:
            add_page(connection, Page(records=records), door="bibtex", raw=str(start).encode())
        texts += drawn
    vectors = Vectors(database, folder, lambda texts: rng.standard_normal((len(texts), 384)), model="speed")
    vectors.update()
    queries = [" ".join(rng.choice(words, 4, p=weights)) for _ in range(QUERIES)]
    with database.read() as connection:
        for way in ("words", "both"):
            timed(f"{n} papers, {way}", lambda q, way=way: search(connection, q, vectors=vectors, way=way), queries)
        index = word_index(database, folder)
        for way in ("words", "both") if index else ():
            ask = lambda q, way=way: search(connection, q, vectors=vectors, words=index, way=way)  # noqa: E731
            timed(f"{n} papers, {way}, index of tantivy", ask, queries)
    database.close()
    for name, engine in ENGINES.items():
        try:
            ask = engine(texts, folder)
        except ImportError:
            print(f"{n} papers, {name}: not installed")
            continue
        timed(f"{n} papers, {name}", ask, queries)


def timed(name, ask, queries):
    """Print milliseconds a query: by the clock, and of the processor, which other jobs on the machine do not lengthen."""
    clock, processor = [], []
    for query in queries:
        start = time.perf_counter(), time.process_time()
        ask(query)
        clock.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    for what, seconds in (("clock", clock), ("processor", processor)):
        p50, p95 = 1000 * np.quantile(seconds, [0.5, 0.95])
        print(f"{name}, {what}: median {p50:.1f} ms, p95 {p95:.1f} ms (without encoding the query)", flush=True)


def of_bm25s(texts, folder):
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    return lambda q: index.retrieve(bm25s.tokenize(q, show_progress=False), k=100, show_progress=False)


def of_tantivy(texts, folder):
    import tantivy

    schema = tantivy.SchemaBuilder().add_text_field("body", stored=False).build()
    index = tantivy.Index(schema)
    writer = index.writer()
    for text in texts:
        writer.add_document(tantivy.Document(body=text))
    writer.commit()
    index.reload()
    searcher = index.searcher()
    return lambda q: searcher.search(index.parse_query(q, ["body"]), 100)


ENGINES = {"bm25s": of_bm25s, "tantivy": of_tantivy}
QUERIES = 100


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--speed", type=int)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.encoder:
            encode = TextEncoder(asked.encoder)
            own_index(Path(name), encode)
            if asked.data:
                cranfield(Path(name), encode, asked.data / "cranfield")
        if asked.speed:
            speed(Path(name), asked.speed)


if __name__ == "__main__":
    main()

"""Serving the papers page: readers and writers at once, and a page of a very large library.

``python benchmarks/serving.py [--readers 200] [--writers 20] [--seconds 60] [--think 5] [--papers N] [--database URL]``;
a server is started on loopback as a process of its own and asked by threads of this one: both share the processors.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import sqlalchemy as sa

from corrigible.library._database import Database
from corrigible.library._schema import papers
from corrigible.papers import index

BLOCK = 20_000
PATHS = ("/", "/trending", "/search?q=label+noise", "/api/daily_papers", "/feed.atom", "/methods/capa")


def fill(database, n):
    """Put made-up papers into a library, as rows: a year of days, words of a Zipf law."""
    rng, now = np.random.default_rng(0), dt.datetime.now(dt.UTC)
    words = np.array([f"word{i}" for i in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1) ** 0.9
    weights /= weights.sum()
    today = dt.date.today()
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        drawn = rng.choice(words, (size, 60), p=weights)
        rows = [
            {"key": f"bibtex:{start + i}", "title": " ".join(d[:8]), "abstract": " ".join(d[8:]), "authors": [],
             "categories": [], "links": [], "counts": {}, "keywords": [], "listed": today - dt.timedelta(int(age)),
             "seen": now, "changed": now}
            for i, (d, age) in enumerate(zip(drawn, rng.integers(0, 365, size), strict=True))
        ]  # fmt: skip
        with database.write() as connection:
            connection.execute(sa.insert(papers), rows)


def serve(url):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "corrigible", "serve", "--port", str(port), "--database", url]
    process, address = subprocess.Popen(command, stdout=subprocess.DEVNULL), f"http://127.0.0.1:{port}"
    while True:
        try:
            httpx.get(f"{address}/health", timeout=60)
            return process, address
        except httpx.TransportError:
            time.sleep(0.2)


def load(address, readers, writers, seconds, think):
    """Ask for pages and vote until the time is over; print answers, errors and seconds an answer."""
    took, wrong, stop = {"read": [], "write": []}, [], time.monotonic() + seconds
    slugs = list(index())

    def turn(kind, number):
        rng = np.random.default_rng(number)
        # No certificates: to load them for each of 220 clients would keep both processors busy for seconds.
        with httpx.Client(base_url=address, timeout=60, verify=False) as client:
            time.sleep(float(rng.uniform(0, think)))  # people do not all come in the same moment
            form = {"vote": "up"}
            if kind == "write":
                form["token"] = re.search(
                    r'name="token" value="(\w+)"', client.get(f"/papers/index:{slugs[0]}").text
                )[1]
            while time.monotonic() < stop:
                start = time.perf_counter()
                try:
                    if kind == "read":
                        answer = client.get(PATHS[rng.integers(len(PATHS))])
                    else:
                        answer = client.post(f"/papers/index:{slugs[rng.integers(len(slugs))]}/vote", data=form)
                    if answer.status_code not in (200, 303):
                        wrong.append(answer.status_code)
                except httpx.HTTPError as error:
                    wrong.append(type(error).__name__)
                took[kind].append(time.perf_counter() - start)
                time.sleep(float(rng.exponential(think)))  # a person looks at a page before the next

    kinds = [("read", i) for i in range(readers)] + [("write", readers + i) for i in range(writers)]
    threads = [threading.Thread(target=turn, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(took, wrong)


def tell(took, wrong):
    for kind, values in took.items():
        if values:
            p50, p95 = 1000 * np.quantile(values, [0.5, 0.95])
            print(f"{kind}: {len(values)} answers, median {p50:.0f} ms, p95 {p95:.0f} ms")
    print(f"errors: {len(wrong)} {sorted(set(map(str, wrong)))}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--writers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--think", type=float, default=5, help="mean seconds between an answer and the next request"
    )
    parser.add_argument("--papers", type=int, default=0)
    parser.add_argument("--database")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = asked.database or str(Path(folder) / "papers.db")
        if asked.papers:
            database = Database(url)
            fill(database, asked.papers)
            database.close()
        process, address = serve(url)
        try:
            if asked.papers:
                with httpx.Client(base_url=address, timeout=60) as client:
                    today = dt.date.today()
                    full = (today.replace(day=1) - dt.timedelta(1)).strftime("%Y-%m")  # a month of 30 days
                    for path in ("/", f"/month/{full}", f"/month/{full}?page=1600", "/trending", "/papers/bibtex:7",
                                 "/search", "/search?q=word900+word1200", "/search?q=word1+word3",
                                 f"/search?q=word40+word90&since={today - dt.timedelta(180)}"):  # fmt: skip
                        times = []
                        for _ in range(11):
                            start = time.perf_counter()
                            client.get(path).raise_for_status()
                            times.append(1000 * (time.perf_counter() - start))
                        print(
                            f"{asked.papers} papers, {path}: first {times[0]:.0f} ms, median {np.median(times[1:]):.0f} ms"
                        )
            if asked.readers + asked.writers:
                load(address, asked.readers, asked.writers, asked.seconds, asked.think)
        finally:
            process.terminate()
            process.wait(timeout=30)


if __name__ == "__main__":
    main()

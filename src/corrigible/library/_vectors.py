"""Search by meaning: exact cosine over a memory-mapped float32 file, a row a paper."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from corrigible.errors import DataError
from corrigible.library._database import Database
from corrigible.library._schema import papers, vectors

Encoder = Callable[[Sequence[str]], NDArray[np.floating]]
_BATCH = 64
_BLOCK_ROWS = 65_536


class Vectors:
    """The vectors of one encoder.

    Rows are appended and synced before the database tells of them: what a crash cut off is written anew.

    Parameters
    ----------
    database : Database
        The library.
    folder : path
        Where the file of vectors stands.
    encode : callable
        From texts to an array of shape (n, d).
    model : str
        Name of the encoder: vectors of two are never mixed.
    """

    def __init__(self, database: Database, folder: str | Path, encode: Encoder, *, model: str) -> None:
        self.database = database
        self.encode = encode
        self.model = model
        name = hashlib.sha256(model.encode()).hexdigest()[:16]
        self.path = Path(folder) / f"vectors-{name}.f32"
        self._kept: tuple[tuple[int, int], NDArray[np.int64], NDArray[np.int64]] | None = None

    def update(self, *, limit: int | None = None) -> int:
        """Encode the papers whose text is new or has changed; return how many.

        Parameters
        ----------
        limit : int, optional
            At most so many, the newest first.
        """
        known = {paper: (row, sha) for paper, row, sha in self._rows()}
        with self.database.read() as connection:
            texts = connection.execute(
                sa.select(papers.c.id, papers.c.title, papers.c.abstract).order_by(papers.c.listed.desc())
            ).all()
        waiting = []
        for paper, title, abstract in texts:
            text = f"{title}. {abstract}"
            sha = hashlib.sha256(text.encode()).hexdigest()
            if known.get(paper, (0, ""))[1] != sha:
                waiting.append((paper, text, sha))
        waiting = waiting[:limit]
        for start in range(0, len(waiting), _BATCH):
            self._append(waiting[start : start + _BATCH])
        return len(waiting)

    def nearest(
        self, text: str, *, limit: int = 100, among: NDArray[np.integer] | None = None
    ) -> list[tuple[int, float]]:
        """Return the papers nearest in meaning, best first.

        Parameters
        ----------
        text : str
            The query.
        limit : int, default=100
            How many.
        among : ndarray of int, optional
            ``papers.id`` to choose from.

        Returns
        -------
        list of (int, float)
            ``papers.id`` and cosine.
        """
        return self._nearest(_unit(np.asarray(self.encode([text[:10_000]]), dtype=np.float32))[0], limit, among)

    def similar(self, paper: int, *, limit: int = 10) -> list[tuple[int, float]]:
        """Return the papers nearest to a paper, without itself; empty where it has no vector yet."""
        ids, places = self._places()
        here = np.flatnonzero(ids == paper)
        if not len(here):
            return []
        found = self._nearest(np.array(self._file()[places[here[0]]]), limit + 1, None)
        return [(p, score) for p, score in found if p != paper][:limit]

    def _nearest(
        self, query: NDArray[np.float32], limit: int, among: NDArray[np.integer] | None
    ) -> list[tuple[int, float]]:
        ids, places = self._places()
        if not len(ids) or limit < 1:
            return []
        if among is not None:
            keep = np.isin(ids, among)
            ids, places = ids[keep], places[keep]
        stored = self._file()
        if len(query) != stored.shape[1]:
            raise DataError(
                f"The encoder {self.model!r} gave {len(query)} numbers, its stored vectors have {stored.shape[1]}."
            )
        # One pass over the file in order; rows that no paper has any more are counted and dropped.
        scores = np.concatenate([stored[s : s + _BLOCK_ROWS] @ query for s in range(0, len(stored), _BLOCK_ROWS)])[
            places
        ]
        best = (
            np.argpartition(-scores, min(limit, len(scores)) - 1)[:limit]
            if len(scores)
            else np.array([], dtype=int)
        )
        best = best[np.lexsort((-ids[best], -scores[best]))]
        return [(int(ids[i]), float(scores[i])) for i in best]

    def _rows(self) -> list[tuple[int, int, str]]:
        columns = sa.select(vectors.c.paper_id, vectors.c.row, vectors.c.text_sha256)
        with self.database.read() as connection:
            return [tuple(r) for r in connection.execute(columns.where(vectors.c.model == self.model))]

    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the papers that have a vector and the rows of these, read again only where something has changed.

        To read a hundred thousand rows takes longer than to compare as many vectors. Every change makes the file longer,
        or takes papers away; while another process has written the file and not yet told of it, nothing is kept.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        count = sa.select(sa.func.count()).select_from(vectors).where(vectors.c.model == self.model)
        columns = sa.select(vectors.c.paper_id, vectors.c.row).where(vectors.c.model == self.model)
        with self.database.read() as connection:
            stamp = (size, connection.execute(count).scalar_one())
            kept = self._kept
            if kept is not None and kept[0] == stamp:
                return kept[1], kept[2]
            found = np.array([tuple(r) for r in connection.execute(columns)], dtype=np.int64).reshape(-1, 2)
        ids, places = found[:, 0].copy(), found[:, 1].copy()
        if len(places) and places.max() + 1 == len(self._file()) and self.path.stat().st_size == size:
            self._kept = (stamp, ids, places)
        return ids, places

    def _append(self, batch: list[tuple[int, str, str]]) -> None:
        found = _unit(np.asarray(self.encode([text for _, text, _ in batch]), dtype=np.float32))
        head = np.array([found.shape[1]], dtype="<i8").tobytes()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.database.write() as connection:  # the lock of the database is the lock of the file
            size = self.path.stat().st_size if self.path.exists() else 0
            with open(self.path, "r+b" if size else "w+b") as file:
                if not size:
                    file.write(head)
                elif file.read(8) != head:
                    raise DataError(
                        f"The encoder {self.model!r} gave {found.shape[1]} numbers, its stored vectors have others."
                    )
                row = (max(size, 8) - 8) // (4 * found.shape[1])  # a row that a crash cut short is written over
                file.seek(8 + row * 4 * found.shape[1])
                file.truncate()
                file.write(found.astype("<f4").tobytes())
                file.flush()
                os.fsync(file.fileno())
            ids = [paper for paper, _, _ in batch]
            connection.execute(sa.delete(vectors).where(vectors.c.model == self.model, vectors.c.paper_id.in_(ids)))
            rows = [
                {"model": self.model, "paper_id": p, "row": row + i, "text_sha256": sha}
                for i, (p, _, sha) in enumerate(batch)
            ]
            connection.execute(sa.insert(vectors), rows)

    def _file(self) -> NDArray[np.float32]:
        width = int(np.fromfile(self.path, dtype="<i8", count=1)[0])
        n = (self.path.stat().st_size - 8) // (4 * width)
        return np.memmap(self.path, dtype="<f4", mode="r", offset=8, shape=(n, width))


def _unit(found: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(length > 0, length, 1), dtype=np.float32)

"""Search by words of very large libraries: an index of tantivy beside the database, which it follows."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from corrigible._utils.files import atomic_path
from corrigible._utils.optional import require
from corrigible.library._database import Database
from corrigible.library._schema import papers
from corrigible.library._words import WEIGHTS, query_words, rank_by_words

_FIELDS = dict(zip(("title", "abstract", "keyword_text", "author_names"), WEIGHTS, strict=True))
_FORMAT = "1"  # of fields and word stems; with another the folder is another, and the index is made anew
_BATCH, _COMMIT = 1000, 100_000
_OVERLAP = dt.timedelta(hours=1)  # a change may be kept later than another that was begun after it
_FEW = 20_000  # so many papers that conditions allow are named one by one
_DEEPEST = 16_000


class WordIndex:
    """The words of a library's papers in an index of tantivy.

    It follows the database: before a query papers that have changed since are taken in. While another process does so,
    the index is read as it was before. What is lost of it is made again.

    Parameters
    ----------
    database : Database
        The library.
    folder : path
        Where the index gets a folder of its own.

    Raises
    ------
    MissingDependencyError
        Without tantivy.
    """

    def __init__(self, database: Database, folder: str | Path) -> None:
        self.tantivy = require("tantivy", extra="tantivy", by="The index of words for large libraries")
        self.database = database
        self.folder = Path(folder) / f"words-{_FORMAT}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stems = self._analyser()
        builder = self.tantivy.SchemaBuilder().add_integer_field("id", indexed=True, fast=True)
        # One field, in which a title stands five times: BM25 summed over fields ranks clearly worse.
        self._schema = builder.add_text_field("text", tokenizer_name="papers", index_option="freq").build()
        self._index = self.tantivy.Index(self._schema, path=str(self.folder))
        self._index.register_tokenizer("papers", self._stems)
        self._lock = threading.Lock()

    def _analyser(self) -> Any:
        pass_through = self.tantivy.Filter
        builder = self.tantivy.TextAnalyzerBuilder(self.tantivy.Tokenizer.simple())
        for step in (pass_through.remove_long(60), pass_through.lowercase(), pass_through.ascii_fold()):
            builder = builder.filter(step)
        return builder.filter(pass_through.stemmer("english")).build()

    def update(self) -> int:
        """Take in papers that are new or have changed; return how many were read, 0 also if another process is at it."""
        with self._lock:
            return self._update()

    def rank(
        self,
        connection: sa.Connection,
        text: str,
        *,
        where: Sequence[sa.ColumnElement[bool]] = (),
        limit: int = 100,
    ) -> list[tuple[int, float]]:
        """Return the papers that hold words of a query, best first.

        Title, keywords, authors and abstract have the weights of `rank_by_words`. Here they also make a paper longer, and
        word stems are of a newer kind, so scores differ.

        Parameters
        ----------
        connection : Connection
            Of `Database.read`.
        text : str
            The query.
        where : sequence of conditions, optional
            On columns of ``papers``.
        limit : int, default=100
            How many.

        Returns
        -------
        list of (int, float)
            ``papers.id`` and score; higher is better. Empty where the query has no words.
        """
        self._follow(connection)
        asked = self._query(query_words(text))
        if asked is None:
            return []
        if not where:
            return self._best(asked, limit)
        few = list(connection.scalars(sa.select(papers.c.id).where(*where).limit(_FEW + 1)))
        if len(few) <= _FEW:
            named = self.tantivy.Query.term_set_query(self._schema, "id", few)
            must = [(self.tantivy.Occur.Must, q) for q in (asked, self.tantivy.Query.boost_query(named, 0.0))]
            return self._best(self.tantivy.Query.boolean_query(must), limit) if few else []
        return self._passing(connection, asked, where, limit) or rank_by_words(
            connection, text, where=where, limit=limit
        )

    def _passing(
        self, connection: sa.Connection, asked: Any, where: Sequence[sa.ColumnElement[bool]], limit: int
    ) -> list[tuple[int, float]]:
        """Return the best of those that pass, found by looking deeper and deeper; nothing if that is too deep."""
        depth = 8 * limit
        while depth <= _DEEPEST:
            best = self._best(asked, depth)
            there = sa.select(papers.c.id).where(papers.c.id.in_([i for i, _ in best]), *where)
            allowed = set(connection.scalars(there))
            if len(allowed) >= limit or len(best) < depth:
                return [pair for pair in best if pair[0] in allowed][:limit]
            depth *= 4
        return []

    def _query(self, words: Sequence[str]) -> Any:
        """Return the query for any of the words, None where there are no words."""
        query, should = self.tantivy.Query, self.tantivy.Occur.Should
        stems = dict.fromkeys(stem for word in words for stem in self._stems.analyze(word))
        parts = [(should, query.term_query(self._schema, "text", stem, "freq")) for stem in stems]
        return query.boolean_query(parts) if parts else None

    def _best(self, asked: Any, limit: int) -> list[tuple[int, float]]:
        searcher = self._index.searcher()
        hits = searcher.search(asked, limit, count=False).hits
        ids = searcher.fast_field_values("id", [address for _, address in hits])
        found = [(int(i), float(score)) for i, (score, _) in zip(ids, hits, strict=True)]
        return sorted(found, key=lambda pair: (-pair[1], -pair[0]))

    def _follow(self, connection: sa.Connection) -> None:
        newest = connection.scalar(sa.select(sa.func.max(papers.c.changed)))
        if newest is None or newest.isoformat() == self._state().get("changed"):
            self._index.reload()
        elif self._lock.acquire(blocking=False):  # who comes meanwhile reads what is there
            try:
                self._update()
            finally:
                self._lock.release()

    def _state(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        return {}

    def _update(self) -> int:
        try:
            writer = self._index.writer(num_threads=1)
        except ValueError as error:
            if "lock" not in str(error).lower():
                raise
            self._index.reload()
            return 0
        with self.database.read() as connection:
            first = connection.execute(
                sa.select(papers.c.key, papers.c.seen).order_by(papers.c.id).limit(1)
            ).first()
            newest = connection.scalar(sa.select(sa.func.max(papers.c.changed)))
            count = connection.scalar(sa.select(sa.func.count()).select_from(papers))
            state = self._state()
            self._index.reload()
            there = self._index.searcher().num_docs
            library = [first.key, first.seen.isoformat()] if first else None
            since = state.get("changed") if state.get("library") == library else None
            if since is not None and newest.isoformat() == since and there == count:
                return 0
            taken = self._take(connection, writer, since)
            self._index.reload()
            if since is not None and self._index.searcher().num_docs != count:  # papers have gone
                taken += self._take(connection, writer, None)
        writer.wait_merging_threads()
        self._index.reload()
        with atomic_path(self.folder / "state.json") as temporary:
            state = {"changed": newest.isoformat() if newest else None, "library": library}
            Path(temporary).write_text(json.dumps(state), encoding="utf-8")
        return taken

    def _take(self, connection: sa.Connection, writer: Any, since: str | None) -> int:
        """Take in what has changed since a time, or everything anew."""
        query = sa.select(papers.c.id, *(papers.c[name] for name in _FIELDS))
        if since is None:
            writer.delete_all_documents()
        else:
            query = query.where(papers.c.changed >= dt.datetime.fromisoformat(since) - _OVERLAP)
        taken = 0
        rows = connection.execution_options(yield_per=_BATCH).execute(query)
        for row in rows:
            if since is not None:
                writer.delete_documents_by_term("id", row.id)
            text = " ".join(" ".join([row._mapping[name]] * int(times)) for name, times in _FIELDS.items())
            writer.add_document(self.tantivy.Document(id=row.id, text=text))
            taken += 1
            if taken % _COMMIT == 0:
                writer.commit()
        writer.commit()
        return taken

import datetime as dt

import numpy as np
import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

from corrigible.errors import InvalidParameterError, MissingDependencyError
from corrigible.library import Page, Record, _word_index
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.library._schema import papers
from corrigible.library._search import search
from corrigible.library._word_index import WordIndex
from corrigible.library._words import rank_by_words

try:
    import tantivy
except ImportError:
    tantivy = None
needs_tantivy = pytest.mark.skipif(tantivy is None, reason="tantivy is not installed")


def tell(database, *texts, start=0):
    records = tuple(
        Record(key=f"bibtex:{start + i}", title=title, abstract=abstract, door="bibtex")
        for i, (title, abstract) in enumerate(texts)
    )
    with database.write() as connection:
        add_page(connection, Page(records=records), door="bibtex", raw=f"{start} {texts}".encode())


@pytest.fixture
def database(library_url):
    found = Database(library_url)
    tell(
        found,
        ("Out-of-distribution detection", "Rows unlike those of training."),
        ("Confident learning", "Label errors are found by out of sample predictions."),
        ("Cats", "Training of kittens and cats: labels, labels, labels."),
        ("Nothing", "Zürich naïve."),
    )
    yield found
    found.close()


@pytest.fixture
def words(database, tmp_path):
    return WordIndex(database, tmp_path / "index")


def ranked(database, words, text, **rest):
    with database.read() as connection:
        keys = dict(connection.execute(sa.select(papers.c.id, papers.c.key)).all())
        return [keys[i].removeprefix("bibtex:") for i, _ in words.rank(connection, text, **rest)]


def test_without_tantivy_a_sentence_says_so(tmp_path, monkeypatch):
    database = Database(str(tmp_path / "papers.db"))
    monkeypatch.setitem(__import__("sys").modules, "tantivy", None)
    with pytest.raises(MissingDependencyError, match=r"corrigible\[tantivy\]"):
        WordIndex(database, tmp_path)
    database.close()


@needs_tantivy
def test_words(database, words):
    assert ranked(database, words, "label error")[0] == "1"
    assert ranked(database, words, "detected distributions")[0] == "0"  # stems
    assert ranked(database, words, "kittens") == ["2"]
    assert ranked(database, words, "zurich NAIVE") == ["3"]  # without case and accents
    assert ranked(database, words, "kittens", where=[papers.c.title != "Cats"]) == []
    assert ranked(database, words, "label", limit=1, where=[papers.c.title == "Cats"]) == ["2"]
    assert ranked(database, words, "of the") == ranked(database, words, "the of")


@needs_tantivy
@pytest.mark.parametrize("text", ["", "?", '"', "NOT", "a:b", "title:x*", "((", "*", "\x00", "x" * 9000, "AND OR"])
def test_any_text_is_a_query(database, words, text):
    assert isinstance(ranked(database, words, text), list)


@needs_tantivy
def test_it_follows_the_database(database, words, tmp_path):
    assert words.update() == 4
    assert words.update() == 0  # all of it is there
    assert ranked(database, words, "walrus") == []
    tell(database, ("A walrus", "Tusks."), start=10)
    assert ranked(database, words, "walrus") == ["10"]
    tell(database, ("A seal", "Flippers."), start=10)  # the same paper reads otherwise now
    assert ranked(database, words, "walrus") == []
    assert ranked(database, words, "flippers") == ["10"]
    with database.write() as connection:
        connection.execute(sa.delete(papers).where(papers.c.key == "bibtex:10"))
        connection.execute(
            sa.update(papers).where(papers.c.key == "bibtex:3").values(changed=dt.datetime.now(dt.UTC))
        )
    assert ranked(database, words, "flippers") == []
    assert WordIndex(database, tmp_path / "index").update() == 0
    other = Database(str(tmp_path / "other.db"))  # another library where this one stood
    tell(other, ("Other", "Library."))
    found = WordIndex(other, tmp_path / "index")
    assert ranked(other, found, "library") == ["0"]
    assert ranked(other, found, "kittens") == []
    other.close()


@needs_tantivy
def test_while_another_process_writes_the_index_is_read(database, words):
    words.update()
    writer = words._index.writer(num_threads=1)
    tell(database, ("A walrus", "Tusks."), start=10)
    other = WordIndex(database, words.folder.parent)
    assert other.update() == 0
    assert ranked(database, other, "kittens") == ["2"]
    del writer


@needs_tantivy
def test_conditions_that_leave_much(tmp_path, monkeypatch):
    """Looking deeper and deeper, and in the end in the database, gives what naming the papers one by one gives."""
    rng = np.random.default_rng(0)
    database = Database(str(tmp_path / "papers.db"))
    drawn = rng.choice([f"w{i}" for i in range(40)], (400, 12))
    tell(database, *((" ".join(d[:4]), " ".join(d[4:])) for d in drawn))
    words = WordIndex(database, tmp_path)
    for where in ([papers.c.id % 2 == 0], [papers.c.id % 90 == 0]):
        found = []
        for few in (20_000, 0):
            monkeypatch.setattr(_word_index, "_FEW", few)
            with database.read() as connection:
                found.append(words.rank(connection, "w1 w2", where=where, limit=5))
                allowed = set(connection.scalars(sa.select(papers.c.id).where(*where)))
            assert {i for i, _ in found[-1]} <= allowed
        np.testing.assert_allclose(*([score for _, score in f] for f in found), rtol=1e-6)  # of equals either
    monkeypatch.setattr(_word_index, "_FEW", 0)
    monkeypatch.setattr(_word_index, "_DEEPEST", 0)
    with database.read() as connection:
        where = [papers.c.id % 2 == 0]
        expected = rank_by_words(connection, "w1 w2", where=where, limit=5)
        assert words.rank(connection, "w1 w2", where=where, limit=5) == expected
    database.close()


@needs_tantivy
def test_search_asks_it(database, words):
    with database.read() as connection:
        found = search(connection, "kittens", words=words)
        assert (found.way, len(found.ids)) == ("words", 1)
        assert search(connection, "  ", words=words).ids == ()


def test_it_needs_a_library_in_a_file():
    pytest.importorskip("starlette")
    from corrigible.web._serve import _words

    database = Database("sqlite://")
    assert _words(database, False) is None
    with pytest.raises(InvalidParameterError, match="library in a file"):
        _words(database, True)
    database.close()

import numpy as np
import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corrigible.errors import DataError, InvalidParameterError
from corrigible.library import Page, Record, _words
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.library._schema import papers
from corrigible.library._search import fuse, search
from corrigible.library._vectors import Vectors
from corrigible.library._words import MAX_WORDS, query_words, rank_by_words

TEXTS = {
    "a": ("Out-of-distribution detection", "Rows unlike those of training."),
    "b": ("Confident learning", "Label errors are found by out of sample predictions."),
    "c": ("Cats", "Training of kittens and cats: labels, labels, labels."),
    "d": ("Nothing", "Zürich naïve."),
}


def filled(url):
    database = Database(url)
    records = tuple(Record(key=f"bibtex:{k}", title=t, abstract=a, door="bibtex") for k, (t, a) in TEXTS.items())
    with database.write() as connection:
        add_page(connection, Page(records=records), door="bibtex", raw=b"")
    return database


@pytest.fixture
def database(library_url):
    found = filled(library_url)
    yield found
    found.close()


def keys(database, ids):
    with database.read() as connection:
        named = dict(connection.execute(sa.select(papers.c.id, papers.c.key)).all())
    return "".join(named[i].removeprefix("bibtex:") for i in ids)


def by_words(database, text, **rest):
    with database.read() as connection:
        return keys(database, [i for i, _ in rank_by_words(connection, text, **rest)])


def test_words(database):
    assert by_words(database, "out-of-distribution") == "ab"[: len(by_words(database, "out-of-distribution"))]
    assert by_words(database, "label error")[0] == "b"
    assert by_words(database, "detected distributions")[0] == "a"  # stems
    assert by_words(database, "kittens") == "c"
    assert by_words(database, "kittens", where=[papers.c.title != "Cats"]) == ""
    assert by_words(database, "label", limit=1) in ("b", "c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        '"',
        "NOT",
        "a:b",
        "title:x*",
        "((",
        "x' OR 1=1 --",
        "*",
        "\x00",
        "-",
        "NEAR(a b)",
        "word " * 5000,
        "%s :w0",
    ],
)
def test_any_text_is_a_query(database, text):
    assert isinstance(by_words(database, text), str)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=40))
def test_any_text_at_all(database, text):
    assert isinstance(by_words(database, text), str)


def test_query_words():
    assert query_words("How do I find label errors?") == ["find", "label", "errors"]
    assert query_words("to be or not to be") == ["to", "be", "or", "not"]  # only common ones: they are kept
    assert len(query_words(" ".join(f"w{i}" for i in range(99)))) == MAX_WORDS


def letters(texts):
    """Counts of letters: an encoder whose answers can be worked out."""
    return np.array([[t.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts], dtype=np.float64)


@pytest.fixture
def vectors(database, tmp_path):
    return Vectors(database, tmp_path, letters, model="letters")


def test_vectors_are_exact(database, vectors):
    assert vectors.nearest("cats") == []
    assert vectors.update(limit=1) == 1
    assert vectors.update() == len(TEXTS) - 1
    assert vectors.update() == 0
    counted = letters([f"{t}. {a}" for t, a in TEXTS.values()])
    query = letters(["cats and kittens"])[0]
    cosine = counted @ query / np.linalg.norm(counted, axis=1) / np.linalg.norm(query)
    found = vectors.nearest("cats and kittens")
    assert keys(database, [i for i, _ in found]) == "".join(np.array(list(TEXTS))[np.argsort(-cosine)])
    np.testing.assert_allclose([s for _, s in found], np.sort(cosine)[::-1], atol=1e-6)
    first = found[0][0]
    assert first not in [i for i, _ in vectors.similar(first)]
    assert [i for i, _ in vectors.nearest("cats", among=np.array([found[-1][0]]))] == [found[-1][0]]


def test_changed_text_gets_a_new_vector(database, vectors):
    vectors.update()
    with database.write() as connection:
        connection.execute(
            sa.update(papers).where(papers.c.key == "bibtex:d").values(title="zzzz", abstract="zzzz")
        )
    assert vectors.update() == 1
    assert keys(database, [i for i, _ in vectors.nearest("zzz", limit=1)]) == "d"


def test_what_another_process_does_is_seen(database, vectors):
    """Which row is whose is kept between queries, until something has changed."""
    other = Vectors(database, vectors.path.parent, letters, model="letters")
    vectors.update(limit=2)
    assert len(vectors.nearest("kittens")) == 2
    kept = vectors._kept
    assert len(vectors.nearest("kittens")) == 2
    assert kept is not None
    assert vectors._kept is kept  # read once
    other.update()
    assert len(vectors.nearest("kittens")) == len(TEXTS)
    (best, _), *_ = vectors.nearest("kittens")
    with database.write() as connection:
        connection.execute(sa.delete(papers).where(papers.c.id == best))
    assert best not in [i for i, _ in vectors.nearest("kittens")]
    with open(vectors.path, "ab") as file:  # written, and the database not yet told
        file.write(np.ones(26, dtype="<f4").tobytes())
    before = vectors._kept
    assert len(vectors.nearest("kittens")) == len(TEXTS) - 1
    assert vectors._kept is before


def test_a_row_cut_short_by_a_crash_is_written_over(database, vectors):
    vectors.update(limit=2)
    with open(vectors.path, "ab") as file:
        file.write(b"\x01\x02\x03")
    vectors.update()
    expected = Vectors(database, vectors.path.parent / "fresh", letters, model="other")
    expected.update()
    assert vectors.nearest("kittens") == expected.nearest("kittens")


def test_an_encoder_of_another_width(database, vectors):
    vectors.update(limit=1)
    vectors.encode = lambda texts: np.ones((len(texts), 3))
    with pytest.raises(DataError, match="'letters' gave 3 numbers"):
        vectors.nearest("x")
    with pytest.raises(DataError, match="'letters' gave 3 numbers"):
        vectors.update()


def test_ways(database, vectors):
    vectors.update()
    with database.read() as connection:
        assert search(connection, "kittens").way == "words"
        both = search(connection, "label errors", vectors=vectors)
        assert (both.way, len(both.ids)) == ("both", len(TEXTS))
        assert keys(database, both.ids)[0] == "b"
        assert search(connection, "kittens", vectors=vectors, way="meaning").way == "meaning"
        kept = search(connection, "kittens", vectors=vectors, where=[papers.c.title == "Nothing"])
        assert keys(database, kept.ids) == "d"
        with pytest.raises(InvalidParameterError, match="needs an encoder"):
            search(connection, "x", way="both")
        with pytest.raises(InvalidParameterError, match="'way' of search"):
            search(connection, "x", way="magic")


def test_fusion_by_hand():
    assert fuse([[1, 2, 3], [3, 4]]) == [3, 1, 4, 2]  # 1/61 + 1/63, 1/61, then 1/62 twice: the newer first
    assert fuse([[], []]) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Made-up abstracts, words of a Zipf law: the first words stand in nearly all of them."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 301)
    drawn = rng.choice([f"w{i}" for i in range(300)], (800, 30), p=weights / weights.sum())
    records = tuple(
        Record(key=f"bibtex:{i}", title=" ".join(d[:5]), abstract=" ".join(d[5:]), door="bibtex")
        for i, d in enumerate(drawn)
    )
    database = Database(str(tmp_path_factory.mktemp("large") / "papers.db"))
    with database.write() as connection:
        add_page(connection, Page(records=records), door="bibtex", raw=b"")
    yield database
    database.close()


def both_ways(database, text, monkeypatch, rows, **rest):
    """The ranking that weighs every row, as scores of all papers, and the one that a large store gets."""
    with database.read() as connection:
        limit = {"limit": 10_000, "where": rest.get("where", ())}
        monkeypatch.setattr(_words, "_ROWS", 10**9)
        exact = rank_by_words(connection, text, **limit)
        monkeypatch.setattr(_words, "_ROWS", rows)
        return exact, rank_by_words(connection, text, **rest)


@pytest.mark.parametrize("where", [[], [papers.c.id % 2 == 0], [papers.c.id > 795]])
def test_a_large_store_is_ranked_as_a_small_one(large, monkeypatch, where):
    rng = np.random.default_rng(1)
    for _ in range(60):
        text = " ".join(f"w{i}" for i in rng.integers(0, 120, 4) ** 2 // 50)
        exact, quick = both_ways(large, text, monkeypatch, 900, where=where, limit=20)
        scores = dict(exact)
        assert len({i for i, _ in quick}) == len(quick) == min(len(exact), 20)
        # Words in more than half of the papers weigh 1e-6 at most; nothing else may differ.
        np.testing.assert_allclose([scores[i] for i, _ in quick], [s for _, s in exact[:20]], atol=1e-4)
        np.testing.assert_allclose([s for _, s in quick], [s for _, s in exact[:20]], atol=1e-4)


def test_further_words_add_to_what_the_rarest_choose(large, monkeypatch):
    exact, quick = both_ways(large, "w250 w60 w30", monkeypatch, 1, limit=5)
    rare = {i for i, _ in both_ways(large, "w250", monkeypatch, 10**9, limit=1000)[1]}
    assert len(rare) >= 5
    expected = [(i, s) for i, s in exact if i in rare][:5]
    assert [i for i, _ in quick] == [i for i, _ in expected]
    np.testing.assert_allclose([s for _, s in quick], [s for _, s in expected])


def test_words_that_stand_everywhere_give_the_newest(large, monkeypatch):
    _, found = both_ways(large, "w0 w1", monkeypatch, 1, limit=7)
    ids = [i for i, _ in found]
    assert ids == sorted(ids, reverse=True)
    assert ids[-1] > 780
    assert [s for _, s in found] == [0.0] * 7
    _, found = both_ways(large, "w0 absent", monkeypatch, 1, limit=3, where=[papers.c.id < 100])
    assert [i for i, _ in found] == [99, 98, 97]
    assert both_ways(large, "absent gone", monkeypatch, 1)[1] == []


def test_how_many_hold_a_word_is_counted_once(large, monkeypatch):
    asked = []
    with large.read() as connection:
        _words._counted.pop(connection.engine, None)
        assert _words._holders(connection, ["w0", "absent"], 800)["absent"] == 0
        monkeypatch.setattr(connection, "scalar", lambda *a: asked.append(a) or 5)
        assert _words._holders(connection, ["w0"], 801)["w0"] > 700
        assert asked == []
        assert _words._holders(connection, ["w0"], 1801)["w0"] == 5  # the store has grown
        _words._counted.pop(connection.engine, None)

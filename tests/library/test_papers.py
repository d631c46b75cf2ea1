import datetime as dt
import json
import sqlite3
import subprocess
import sys

import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("defusedxml")

import answers_of_sources as sample

from corrigible.errors import DataError, InvalidParameterError
from corrigible.library import Page, Record, Version, parse_atom, parse_daily, parse_oai, parse_rss
from corrigible.library._database import Database
from corrigible.library._own_index import load_own_index
from corrigible.library._papers import Added, add_page, to_record
from corrigible.library._schema import answers, metadata, papers, sightings, versions
from corrigible.papers import index

NOW = dt.datetime(2026, 11, 22, 7, tzinfo=dt.UTC)


@pytest.fixture
def database(library_url):
    found = Database(library_url)
    yield found
    found.close()


def add(database, raw, parse, door):
    with database.write() as connection:
        return add_page(connection, parse(raw), door=door, raw=raw, address="test", now=NOW)


def told(database, *records, door="oai", at=NOW):
    with database.write() as connection:
        return add_page(connection, Page(records=records), door=door, raw=repr(records).encode(), now=at)


def row(database, key="2611.00001"):
    with database.read() as connection:
        return connection.execute(sa.select(papers).where(papers.c.key == key)).one()


ATOM, OAI, RSS = sample.atom(sample.ENTRY), sample.oai(sample.OAI_RECORD), sample.rss(sample.rss_item())
DAILY = json.dumps([sample.DAILY]).encode()
DOORS = {
    "atom": (ATOM, parse_atom),
    "oai": (OAI, parse_oai),
    "rss": (RSS, parse_rss),
    "huggingface": (DAILY, parse_daily),
}


def test_doors_tell_of_one_paper_in_any_order(database, library_url, tmp_path):
    for door, (raw, parse) in DOORS.items():
        add(database, raw, parse, door)
    first = row(database)
    other = Database(f"sqlite:///{tmp_path}/other.db")
    for door, (raw, parse) in reversed(DOORS.items()):
        add(other, raw, parse, door)
    second = row(other)
    other.close()
    for name in (
        "title",
        "abstract",
        "authors",
        "categories",
        "published",
        "announced",
        "listed",
        "counts",
        "license",
    ):
        assert getattr(first, name) == getattr(second, name), name
    assert first.title == "A Title"  # the harvest's word, over the feed's
    assert first.counts == {"upvotes": 17, "comments": 4, "stars": 5}
    assert first.listed == dt.date(2026, 11, 20)


def test_the_same_answer_twice_changes_nothing(database):
    assert add(database, OAI, parse_oai, "oai") == Added(new=1)
    before = row(database)
    assert add(database, OAI, parse_oai, "oai") == Added(same=1)
    assert row(database) == before
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(answers)).scalar() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(sightings)).scalar() == 1


def test_an_older_version_never_replaces_a_newer_one(database):
    def record(number, title):
        return Record(key="2611.00007", title=title, door="oai", versions=(Version(number),))

    told(database, record(2, "Second"))
    told(database, record(1, "First"))
    assert row(database, "2611.00007").title == "Second"
    told(database, Record(key="2611.00007", title="Third", door="rss", versions=(Version(3),)), door="rss")
    assert row(database, "2611.00007").title == "Third"  # newer, though from a lesser door
    with database.read() as connection:
        assert sorted(connection.execute(sa.select(versions.c.number)).scalars()) == [1, 2, 3]


def test_silence_erases_nothing(database):
    add(database, OAI, parse_oai, "oai")
    told(database, Record(key="2611.00001", title="A Title", door="oai"))
    assert row(database).abstract == "An abstract."
    assert len(row(database).authors) == 3


def test_withdrawals(database):
    add(database, OAI, parse_oai, "oai")
    assert not row(database).withdrawn
    gone = sample.oai(sample.OAI_DELETED.replace("2610.00009", "2611.00001"))
    add(database, gone, parse_oai, "oai")
    assert row(database).withdrawn


def test_own_index(database):
    papers_here = index()
    with database.write() as connection:
        assert load_own_index(connection).new == len(papers_here)
        assert load_own_index(connection) == Added()
    slug, ours = next(iter(papers_here.items()))
    told(database, Record(key="2611.00042", title=ours.title.upper() + " ", door="oai", abstract="Theirs."))
    found = row(database, "2611.00042")  # the same paper, now under its identifier
    assert (found.slug, found.abstract) == (slug, "Theirs.")
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(papers)).scalar() == len(papers_here)
    with database.write() as connection:
        assert load_own_index(connection).new == 0


def test_own_index_finds_a_paper_that_came_first(database):
    slug, ours = next(iter(index().items()))
    told(database, Record(key="2611.00042", title=ours.title, door="oai"))
    with database.write() as connection:
        load_own_index(connection)
    assert row(database, "2611.00042").slug == slug


def test_a_failure_keeps_nothing(database):
    def interrupted():
        with database.write() as connection:
            add_page(connection, parse_oai(OAI), door="oai", raw=OAI)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(papers)).scalar() == 0


def test_round_trip_through_a_row(database):
    told(database, *parse_oai(OAI).records)
    again = to_record(row(database))
    assert (again.key, again.title, again.authors) == ("2611.00001", "A Title", parse_oai(OAI).records[0].authors)


def test_words_follow_what_changes(database):
    told(database, Record(key="2611.00007", title="Café noise", door="oai", versions=(Version(1),)))
    told(database, Record(key="2611.00007", title="Silence", door="oai", versions=(Version(2),)))
    if database.dialect == "sqlite":
        with database.read() as connection:
            for word, n in (("cafe", 0), ("silence", 1)):
                query = sa.text("SELECT count(*) FROM papers_fts WHERE papers_fts MATCH :word")
                assert connection.execute(query, {"word": word}).scalar() == n


def test_migrations_make_the_tables_that_the_program_knows(database):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        context = MigrationContext.configure(connection)
        found = compare_metadata(context, metadata)
    ours = [d for d in found if "papers_fts" not in str(d) and "words" not in str(d)]
    assert ours == []


def test_a_newer_database_is_refused(database, library_url):
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match=r"newer version .*'9999'"):
        Database(library_url)


def test_what_is_no_library(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no database" * 100)
    with pytest.raises(DataError, match="cannot be opened"):
        Database(str(text))
    with pytest.raises(DataError, match="cannot be opened"):
        Database(str(tmp_path / "no" / "folder" / "papers.db"))
    with pytest.raises(InvalidParameterError, match="must be a path"):
        Database("mysql://root:secret@host/db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE things (a)")
    with pytest.raises(DataError, match="holds tables and no library"):
        Database(str(tmp_path / "other.db"))


WRITER = """
import sys, sqlalchemy as sa
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.library import Page, Record
database = Database(sys.argv[1])
for i in range(10_000):
    with database.write() as connection:
        add_page(connection, Page(records=(Record(key=f"bibtex:{i}", title=f"Title {i}", door="bibtex"),)),
                 door="bibtex", raw=str(i).encode())
    print(i, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    url = f"sqlite:///{tmp_path}/papers.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        seen = -1
        for line in writer.stdout:
            seen = int(line)
            if seen >= 5:
                writer.kill()
                break
        rest = writer.stdout.read().split()
    last = int(rest[-1]) if rest else seen
    database = Database(url)
    with database.read() as connection:
        kept = connection.execute(sa.select(sa.func.count()).select_from(papers)).scalar()
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
    database.close()
    assert last + 1 <= kept <= last + 2

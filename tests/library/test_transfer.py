import datetime as dt
import gzip
import json
import os
import subprocess
import sys

import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

from typer.testing import CliRunner

from corrigible.cli import app
from corrigible.errors import DataError
from corrigible.library import Author, Page, Record, Version
from corrigible.library import _people as people
from corrigible.library._database import Database
from corrigible.library._own_index import load_own_index
from corrigible.library._papers import add_page
from corrigible.library._schema import metadata, papers, subscriptions, suppressions, users
from corrigible.library._search import search
from corrigible.library._subscriptions import ask, confirm
from corrigible.library._transfer import export_library, import_library, tables

NOW = dt.datetime(2026, 11, 30, 7, 1, 2, 345678, tzinfo=dt.UTC)
STRANGE = 'Zoë\'s "paper" \\ \u2028 ñ 🙂 <b>'


def fill(database):
    """Something in every table that is exported."""
    record = Record(
        key="2611.00001", title=STRANGE, abstract="About calibration.", authors=(Author("Ada", "Here"),), door="oai",
        versions=(Version(1, NOW), Version(2)), links=(("code", "https://example.org/x"),), counts={"upvotes": 3},
    )  # fmt: skip
    with database.write() as connection:
        load_own_index(connection)
        add_page(connection, Page(records=(record,)), door="oai", raw=b"x", now=NOW)
        user = people.local_user(connection)
        of = connection.execute(sa.select(papers.c.id).where(papers.c.key == "2611.00001")).scalar_one()
        people.vote(connection, user, of, -1)
        people.note(connection, user, of, f"first line\n{STRANGE}")
        confirm(connection, token := ask(connection, "ada@example.org", searches=("label noise",), user=user))
        ask(connection, "bob@example.org", every="week", rooms=("data",))
        first = connection.execute(sa.select(sa.func.min(subscriptions.c.id))).scalar_one()
        rows = {
            "harvests": {"door": "oai", "what": "cs", "since": "2026-11-01", "changed": NOW},
            "api_tokens": {"user_id": user, "token_hash": "a" * 64, "made": NOW},
            "issues": {"subscription_id": first, "day": NOW.date(), "papers": {"shown": [of], "passed": []},
                       "state": "sent", "at": NOW},
            "suppressions": {"address": "Z@example.org", "reason": "complaint", "at": NOW},
            "bounces": {"address": "z@example.org", "permanent": True, "at": NOW, "sha256": "b" * 64},
            "evidence_log": {"name": "capa", "before": None, "state": {"status": "draft"}, "at": NOW},
            "runs": {"paper_id": of, "kind": "example", "name": "capa", "state": "done", "asked": NOW, "exit": 0,
                     "seconds": 0.1 + 0.2, "result": {"failed": 0}, "log": STRANGE},
        }  # fmt: skip
        for name, row in rows.items():
            connection.execute(sa.insert(metadata.tables[name]), row)
        connection.execute(sa.insert(suppressions), {"address": "a-b@example.org", "at": NOW})
    return token


def everything(database):
    with database.read() as connection:
        return {t.name: sorted(map(repr, connection.execute(sa.select(t)))) for t in tables()}


@pytest.fixture
def database(library_url):
    found = Database(library_url)
    yield found
    found.close()


@pytest.fixture
def other(tmp_path):
    found = Database(f"sqlite:///{tmp_path}/other.db")
    yield found
    found.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The file of a library that holds something everywhere."""
    path = tmp_path_factory.mktemp("source") / "source.db"
    database = Database(str(path))
    fill(database)
    database.close()
    return path


@pytest.fixture(scope="module")
def exported(source):
    database = Database(str(source))
    export_library(database, source.parent / "out.gz")
    database.close()
    return source.parent / "out.gz"


def lines_of(path):
    return gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]


def write(path, lines):
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def test_there_and_back(database, other, library_url, tmp_path):
    """From either database to SQLite and back to the first kind: rows and bytes are the same."""
    token = fill(database)
    before = everything(database)
    assert all(before.values()), [n for n, rows in before.items() if not rows]
    first, second = tmp_path / "first.gz", tmp_path / "second.gz"
    counted = export_library(database, first)
    assert counted == {name: len(rows) for name, rows in before.items()}
    assert import_library(other, first) == counted
    assert everything(other) == before
    export_library(other, second)
    assert first.read_bytes() == second.read_bytes()
    with database.write() as connection:  # back into what it came from, emptied
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    import_library(database, second)
    assert everything(database) == before
    with database.write() as connection:  # it can be searched, links still hold, and new rows find free numbers
        assert search(connection, "calibration").ids
        assert confirm(connection, token).address == "ada@example.org"
        added = Record(key="2611.00002", title="New", door="oai")
        add_page(connection, Page(records=(added,)), door="oai", raw=b"y", now=NOW)
        connection.execute(sa.insert(users).values(name="x", role="reader", made=NOW))


def test_secrets_of_sessions_stay_here(exported):
    assert exported.stat().st_mode & 0o777 == 0o600
    kinds = {json.loads(line).get("table") for line in lines_of(exported)}
    assert kinds - {None} == set(metadata.tables) - {"sessions", "login_attempts", "vectors"}


def test_a_full_library_is_not_written_over(other, exported):
    with other.write() as connection:
        people.local_user(connection)
    before = everything(other)
    with pytest.raises(DataError, match="is not empty: it has users"):
        import_library(other, exported)
    assert everything(other) == before


def damaged(lines):
    head = json.loads(lines[0])
    papers_at = next(i for i, line in enumerate(lines) if '"table":"papers"' in line)
    row = json.loads(lines[papers_at])

    def put(**values):
        return [*lines[:papers_at], json.dumps({**row, "row": {**row["row"], **values}}), *lines[papers_at + 1 :]]

    return {
        "newer version": [json.dumps({**head, "schema": "9999"}), *lines[1:]],
        "no export": [json.dumps({"format": "else"}), *lines[1:]],
        "cut off": lines[:-1],
        "is cut off: it": [*lines[:5], *lines[6:]],
        "see its line 3": [*lines[:2], '{"table":', *lines[3:]],
        "no row": [*lines[:2], '{"table": "alembic_version", "row": {}}', *lines[3:]],
        f"line {papers_at + 1}": put(seen="yesterday"),
        "this is no row": put(nonsense=1),
        "row of a": put(withdrawn="no"),
        "cannot be kept": put(title=None),
    }


def test_what_is_refused_leaves_nothing(other, exported, tmp_path):
    for says, lines in damaged(lines_of(exported)).items():
        with pytest.raises(DataError, match=says):
            import_library(other, write(tmp_path / "bad.gz", lines))
        assert not any(everything(other).values()), says


def test_files_that_are_none(other, tmp_path):
    for raw in (
        b"",
        b"not gzip",
        gzip.compress(b"\xff\xfe"),
        gzip.compress(b"x" * 4000)[:40],
        gzip.compress(b"[" * 90_000),
    ):
        (tmp_path / "bad.gz").write_bytes(raw)
        with pytest.raises(DataError, match="no export"):
            import_library(other, tmp_path / "bad.gz")
    with pytest.raises(DataError, match="There is no file"):
        import_library(other, tmp_path / "nothing.gz")


def test_an_export_of_an_older_version_is_taken(other, tmp_path):
    """Columns that came later get what a migration would have given them."""
    head, row = {"format": "corrigible-library", "schema": "0001"}, {"id": 1, "name": "old", "role": "admin"}
    lines = [head, {"table": "users", "row": {**row, "made": NOW.isoformat()}}, {"end": {"users": 1}}]
    import_library(other, write(tmp_path / "old.gz", map(json.dumps, lines)))
    with other.read() as connection:
        assert connection.execute(sa.select(users.c.name)).scalar() == "old"


def test_a_full_disk(source, tmp_path):
    script = (
        "import resource, signal, sys; from corrigible.library._database import Database;"
        "from corrigible.library._transfer import export_library; store = Database(sys.argv[1]);"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "export_library(store, sys.argv[2])"
    )
    command = [sys.executable, "-c", script, str(source), str(tmp_path / "out.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "cannot be written: File too large" in done.stderr
    assert not [name for name in os.listdir(tmp_path) if "out.gz" in name]


def test_commands(source, tmp_path):
    run, out = CliRunner().invoke, str(tmp_path / "all.gz")
    done = run(app, ["papers", "export", out, "--database", str(source)])
    assert done.exit_code == 0, done.output
    assert "1 votes" in done.output
    assert run(app, ["papers", "export", out, "--database", str(source)]).exit_code == 2
    assert run(app, ["papers", "export", f"{out}2", "--database", str(tmp_path / "none.db")]).exit_code == 2
    assert not (tmp_path / "none.db").exists()
    done = run(app, ["papers", "import", out, "--database", str(tmp_path / "new.db")])
    assert done.exit_code == 0, done.output
    old, new = Database(str(source)), Database(str(tmp_path / "new.db"))
    assert everything(new) == everything(old)
    old.close()
    new.close()

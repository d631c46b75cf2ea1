import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest


def _programs():
    """The folder of PostgreSQL's programs, or None."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    return homes[0] if homes else Path(found).parent if found else None


@pytest.fixture(scope="session")
def postgres():
    """Address of a server: the one of CORRIGIBLE_POSTGRES, else one started for these tests on loopback."""
    if address := os.environ.get("CORRIGIBLE_POSTGRES"):
        yield address
        return
    pytest.importorskip("psycopg")
    if (programs := _programs()) is None:
        pytest.skip("PostgreSQL is not installed")
    # Not in pytest's own folder: a later pytest, such as one a test starts, closes that to other accounts.
    with tempfile.TemporaryDirectory(prefix="corrigible-postgres-", ignore_cleanup_errors=True) as folder:
        yield from _served(Path(folder), programs)


def _served(folder, programs):
    """Start a server in an empty folder, yield its address, stop it."""
    who = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL has no account to run under")
        who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*words):
        subprocess.run([str(w) for w in words], check=True, cwd=folder, stdout=subprocess.DEVNULL, **who)

    run(programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tests", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    run(programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
    run(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def library_url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/papers.db"
        return
    sa = pytest.importorskip("sqlalchemy")
    server = request.getfixturevalue("postgres")
    name = f"corrigible_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()

"""What was answered is kept, even if the server is killed at once."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

sa = pytest.importorskip("sqlalchemy")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from corrigible.library import Page, Record
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.library._schema import papers, subscriptions, votes

PAPERS = 400


def test_kill_9_loses_no_acknowledged_vote_or_subscription(library_url, tmp_path):
    database = Database(library_url)
    records = tuple(Record(key=f"2611.{i:05}", title=f"Paper {i}", door="atom") for i in range(PAPERS))
    with database.write() as connection:
        add_page(connection, Page(records=records), door="atom", raw=b"")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = (
        "import sys, uvicorn; from pathlib import Path; from corrigible.library._mail import Sender;"
        "from corrigible.library._post import Outbox; from corrigible.web import create_app;"
        "from corrigible.web._mail_pages import Office;"
        "office = Office(Outbox(Path(sys.argv[2])), Sender('a@localhost.localdomain', site='http://127.0.0.1'));"
        "uvicorn.run(create_app(sys.argv[1], office=office), port=int(sys.argv[3]), log_level='error', ws='none')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, library_url, str(tmp_path / "outbox"), str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address)
        voted, confirmed = write_until_killed(process, address, database)
    finally:
        process.kill()
        process.wait()
    assert len(voted) >= 20, "too few were answered before the kill for this to say anything"
    with database.read() as connection:
        kept = set(
            connection.execute(sa.select(papers.c.key).join(votes, votes.c.paper_id == papers.c.id)).scalars()
        )
        held = set(
            connection.execute(sa.select(subscriptions.c.id).where(subscriptions.c.state == "paused")).scalars()
        )
    database.close()
    assert voted - kept == set()
    assert confirmed
    assert confirmed - held == set()


def wait_for(address):
    for _ in range(600):
        try:
            httpx.get(f"{address}/health", timeout=10)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def write_until_killed(process, address, database):
    """Vote and pause subscriptions from several threads, kill the server amid it, and return what it had answered."""
    from corrigible.library._subscriptions import ask, confirm

    with database.write() as connection:
        for i in range(PAPERS):
            confirm(connection, ask(connection, f"user{i}@example.org"))
        ids = connection.execute(sa.select(subscriptions.c.id).order_by(subscriptions.c.id)).scalars().all()
    voted, paused, busy = set(), set(), threading.Event()

    def write(start):
        with httpx.Client(base_url=address, timeout=30) as client:
            form = {
                "token": re.search(r'name="token" value="(\w+)"', client.get("/settings").text)[1],
                "vote": "up",
            }
            for i in range(start, PAPERS, 4):
                try:
                    key = f"2611.{i:05}"
                    if client.post(f"/papers/{key}/vote", data=form).status_code == 303:
                        voted.add(key)
                    if client.post(f"/subscriptions/{ids[i]}/pause", data=form).status_code == 303:
                        paused.add(ids[i])
                except httpx.TransportError:
                    return
                if len(voted) >= 24:
                    busy.set()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    busy.wait(timeout=60)
    process.send_signal(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert len(voted) < PAPERS, "all was written before the kill"
    return voted, paused

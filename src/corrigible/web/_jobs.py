"""Runs of methods: one at a time, in a process of their own, kept with what they printed and how they ended."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from corrigible.library._database import Database
from corrigible.library._records import clean_lines
from corrigible.library._schema import runs

MAX_SECONDS = 3600
MAX_LOG = 100_000
RESULT = "::result::"  # a line of the process that carries its outcome as JSON
_WAITING = 20


class Worker:
    """Takes runs in turn from the database and carries them out.

    Parameters
    ----------
    database : Database
        Where runs stand.
    data : path, optional
        Folder of real data for evidence.
    """

    def __init__(self, database: Database, data: str | Path | None = None) -> None:
        self.database = database
        self.data = data
        self._news = threading.Event()
        self._ending = False
        self._process: tuple[int, subprocess.Popen[str]] | None = None
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)

    def start(self) -> None:
        """Begin; what an earlier process left running is marked as stopped."""
        with self.database.write() as connection:
            left = sa.update(runs).where(runs.c.state == "running").values(state="stopped", ended=_now())
            connection.execute(left)
        self._thread.start()

    def stop(self) -> None:
        """End after stopping the run that is under way."""
        self._ending = True
        self._news.set()
        self._kill()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def wake(self) -> None:
        """Tell that a run was asked for, once its row is kept."""
        self._news.set()

    def ask(self, connection: sa.Connection, *, kind: str, name: str, paper: int, user: int, version: str) -> int:
        """Put a run in the queue and return its number; the same one that already waits is returned."""
        waits = (runs.c.kind == kind) & (runs.c.name == name) & runs.c.state.in_(("waiting", "running"))
        there = connection.execute(sa.select(runs.c.id).where(waits)).scalar()
        if there is not None:
            return int(there)
        queued = connection.execute(
            sa.select(sa.func.count()).select_from(runs).where(runs.c.state == "waiting")
        ).scalar_one()
        if queued >= _WAITING:
            from corrigible.errors import DataError

            raise DataError(f"At most {_WAITING} runs may wait. Try again when some have ended.")
        values = {"kind": kind, "name": name, "paper_id": paper, "user_id": user, "state": "waiting", "asked": _now(),
                  "version": version}  # fmt: skip
        return int(connection.execute(sa.insert(runs).values(values).returning(runs.c.id)).scalar_one())

    def cancel(self, run: int) -> None:
        """Stop a run that waits or goes on."""
        with self.database.write() as connection:
            waits = (runs.c.id == run) & (runs.c.state == "waiting")
            connection.execute(sa.update(runs).where(waits).values(state="stopped", ended=_now()))
        if self._process and self._process[0] == run:
            self._kill()

    def _loop(self) -> None:
        while not self._ending:
            self._news.clear()
            row = self._take()
            if row is None:
                self._news.wait(timeout=30)
            else:
                self._carry_out(row)

    def _take(self) -> Any:
        with self.database.write() as connection:
            row = connection.execute(
                sa.select(runs).where(runs.c.state == "waiting").order_by(runs.c.id).limit(1)
            ).first()
            if row is not None:
                connection.execute(
                    sa.update(runs).where(runs.c.id == row.id).values(state="running", started=_now())
                )
        return row

    def _carry_out(self, row: Any) -> None:
        command = [sys.executable, "-m", "corrigible.web._job", row.kind, row.name]
        command += [str(self.data)] if self.data is not None else []
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._process = (row.id, process)
        late = threading.Timer(MAX_SECONDS, self._kill)
        late.start()
        try:
            log, result = self._follow(row.id, process)
            code = process.wait()
        finally:
            late.cancel()
            self._process = None
        state = "stopped" if code < 0 else "done" if code == 0 else "failed"
        values = {"state": state, "exit": code, "ended": _now(), "seconds": round(time.perf_counter() - start, 2),
                  "log": log, "result": result, "data": str((result or {}).get("data", ""))}  # fmt: skip
        with self.database.write() as connection:
            connection.execute(sa.update(runs).where(runs.c.id == row.id).values(values))

    def _follow(self, run: int, process: subprocess.Popen[str]) -> tuple[str, dict[str, Any] | None]:
        """Keep what the process prints, and write it down about once a second, so that a page can show it."""
        log, result, written = "", None, time.monotonic()
        assert process.stdout is not None
        with process.stdout as printed:
            for line in printed:
                if line.startswith(RESULT):
                    with contextlib.suppress(ValueError):
                        result = json.loads(line[len(RESULT) :])
                    continue
                log = (log + clean_lines(line) + "\n")[-MAX_LOG:]
                if time.monotonic() - written > 1:
                    written = time.monotonic()
                    with self.database.write() as connection:
                        connection.execute(sa.update(runs).where(runs.c.id == run).values(log=log))
        return log, result

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process[1].pid, signal.SIGKILL)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)

"""Asking other sites: seldom, one at a time over all processes of this machine, and under a name."""

from __future__ import annotations

import datetime as dt
import email.utils
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import corrigible
from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError
from corrigible.library._xml import MAX_BYTES

PAUSE = 3.0  # seconds between requests: arXiv's terms of use
_TRIES = 4
_LONGEST_WAIT = 900.0
_AGAIN = frozenset((429, 500, 502, 503, 504))


class PoliteClient:
    """Fetches addresses with a pause between any two requests of this machine to one site.

    Parameters
    ----------
    contact : str
        Mail address or web address that tells the site whom to write to.
    pause : float, default=3
        Seconds between requests.
    folder : path, optional
        Where processes agree on whose turn it is; by default one for this user in the system's temporary folder.
    sleep : callable, default=time.sleep
        For tests.
    """

    def __init__(
        self,
        contact: str,
        *,
        pause: float = PAUSE,
        folder: str | Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if "@" not in contact and not contact.startswith(("http://", "https://")):
            raise InvalidParameterError(
                f"--contact must be a mail or web address, so that the site knows whom to write to. Got {contact!r}."
            )
        self.agent = f"corrigible/{corrigible.__version__} ({contact})"
        self.pause = pause
        self.folder = Path(folder or Path(tempfile.gettempdir()) / f"corrigible-{os.getuid()}")
        self.sleep = sleep
        self.requests = 0

    def get(self, address: str, **params: str) -> bytes:
        """Return what stands at an address.

        Parameters
        ----------
        address : str
            The address.
        **params
            Of the query.

        Raises
        ------
        DataError
            If the site does not answer, refuses, or answers with too much.
        """
        site = urlsplit(address).hostname or ""
        for tried in range(_TRIES):
            with self._turn(site):
                answer = self._ask(address, params, default=5.0 * 2**tried)
            if isinstance(answer, bytes):
                return answer
            why, wait = answer
            if wait is None or tried == _TRIES - 1:
                raise DataError(f"{site} did not give {address}: {why}.")
            if wait > _LONGEST_WAIT:
                raise DataError(f"{site} asks to wait {wait:.0f} s. Try again after that.")
            self.sleep(wait)
        raise AssertionError

    def _ask(self, address: str, params: dict[str, str], *, default: float) -> bytes | tuple[str, float | None]:
        """Return the body, or why there is none and how long to wait before another try, None for never."""
        httpx = require("httpx", extra="web", by="Ingesting from other sites")
        self.requests += 1
        try:
            with httpx.stream("GET", address, params=params or None, headers={"user-agent": self.agent}, timeout=60.0,
                              follow_redirects=True) as answer:  # fmt: skip
                if answer.status_code in _AGAIN:
                    return f"status {answer.status_code}", _retry_after(answer.headers.get("retry-after"), default)
                # arXiv writes its own errors into feeds with status 400, for the parser to tell.
                if answer.status_code >= 400 and "xml" not in answer.headers.get("content-type", ""):
                    return f"status {answer.status_code}", None
                return _bounded(answer.iter_bytes(), address)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}".rstrip(": "), default

    @contextmanager
    def _turn(self, site: str) -> Iterator[None]:
        """Hold the site's lock, begin no sooner than the pause after the last request, and note when this one ended."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{site.replace('/', '_')}.turn"
        with open(path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            since = time.time() - path.stat().st_mtime if path.stat().st_size else self.pause
            if 0 <= since < self.pause:
                self.sleep(self.pause - since)
            try:
                yield
            finally:
                file.truncate(0)
                file.write("x")
                file.flush()
                os.utime(path)


def _retry_after(text: str | None, default: float) -> float:
    try:
        return max(float(text or ""), 0.0)
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(text or "")
        return max((when - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return default


def _bounded(parts: Any, address: str) -> bytes:
    found = bytearray()
    for part in parts:
        found += part
        if len(found) > MAX_BYTES:
            raise DataError(f"An answer must have at most {MAX_BYTES // 2**20} MiB. {address} gave more.")
    return bytes(found)

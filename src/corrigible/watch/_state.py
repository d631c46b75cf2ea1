r"""The memory between runs: JSON Lines that only ever grow.

The first line holds the settings and a hash of them and of the reference; each closed chunk is one line, and each
later look at its labels another. A line is flushed to the disk before the next chunk begins. A crash can tear only the
last line: what does not end in ``\n`` or cannot be read there is dropped, and its chunk computed again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Self

from corrigible.errors import DataError

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

_VERSION = 1
_FIRST = b'{"kind": "watch"'


class State:
    """A state file, locked against other runs while it is open.

    Parameters
    ----------
    path : str or Path
        The file; made when the first line is written.
    key : str
        Hash of settings and reference.
    settings : dict
        What the hash is of, so that a message can say what differs.
    """

    def __init__(self, path: str | Path, key: str, settings: dict[str, Any]) -> None:
        self.path, self.key, self.settings = Path(path), key, settings
        self.lines: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        self._whole = 0

    def read(self) -> Self:
        """Read and check the lines that are there.

        Raises
        ------
        DataError
            If the file is no state, was made with other settings or another reference, or is damaged before its end.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise DataError(f"--state {str(self.path)!r} cannot be read: {error.strerror}.") from None
        if content and not (content.startswith(_FIRST) or _FIRST.startswith(content)):
            raise DataError(f"--state {str(self.path)!r} is no state of corrigible watch. Name another file.")
        pieces = content.split(b"\n")[:-1]
        found = [_parsed(piece) for piece in pieces]
        if found and found[-1] is None:
            found.pop()
        if None in found:
            raise DataError(
                f"--state {str(self.path)!r} is damaged in line {found.index(None) + 1}. Begin a new one with another name."
            )
        kept = [line for line in found if line is not None]
        self._whole = sum(len(piece) + 1 for piece in pieces[: len(kept)])
        if kept:
            self._check(kept[0])
        self.lines = kept[1:]
        return self

    def append(self, line: dict[str, Any]) -> None:
        """Write one line, and do not return before it is on the disk."""
        try:
            if self._file is None:
                self._open()
            self._write(line)
        except OSError as error:
            raise DataError(f"--state {str(self.path)!r} cannot be written: {error.strerror or error}.") from None
        self.lines.append(line)

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def check_writable(self) -> None:
        """Raise if the file could not be written; nothing is changed."""
        place = self.path if self.path.exists() else self.path.absolute().parent
        if self.path.is_dir() or not os.access(place, os.W_OK):
            raise DataError(f"--state {str(self.path)!r} cannot be written. Name a file in a folder that is there.")

    def _open(self) -> None:
        file = open(self.path, "r+b" if self.path.exists() else "x+b")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise DataError(f"--state {str(self.path)!r} is being written by another run.") from None
        file.seek(0, os.SEEK_END)
        if _grown(file, self._whole):
            file.close()
            raise DataError(f"--state {str(self.path)!r} was written by another run meanwhile. Run again.")
        file.seek(self._whole)
        file.truncate()
        self._file = file
        if self._whole == 0:
            self._write({"kind": "watch", "version": _VERSION, "key": self.key, "settings": self.settings})

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _check(self, header: dict[str, Any]) -> None:
        if header.get("version") != _VERSION:
            raise DataError(f"--state {str(self.path)!r} was written by another version. Begin a new one.")
        if header.get("key") == self.key:
            return
        earlier = header.get("settings") or {}
        changed = [k for k in self.settings if earlier.get(k) != self.settings[k]]
        if not changed:
            what = "another reference"
        else:
            name = changed[0]
            what = f"other settings ({name} was {earlier.get(name)!r}, is {self.settings[name]!r})"
        raise DataError(f"--state {str(self.path)!r} was begun with {what}. Repeat those, or name another file.")


def _parsed(piece: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(piece)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "kind" in line else None


def _grown(file: BinaryIO, whole: int) -> bool:
    """Whether whole lines stand behind those that were read."""
    file.seek(whole)
    rest = file.read()
    return any(_parsed(piece) is not None for piece in rest.split(b"\n")[:-1])

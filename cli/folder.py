"""The data folder of `lookalike up`: one owner at a time, and a log for each part."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from cli.errors import Refused

_ROTATE_BYTES = 10 * 2**20
_TAIL_BYTES = 4096
_TAIL_LINES = 20
# A little longer than the guard gives the parts of a killed `up`.
_CLEARING_SECONDS = 20.0


class DataFolder:
    """Made where it does not stand. Raises Refused where that cannot be, or where another `up` owns it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            (self.path / "logs").mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Refused(
                f"{self.path} cannot be the data folder ({error.strerror}); give --data."
            ) from error
        self._own()

    def _own(self) -> None:
        deadline = time.monotonic() + _CLEARING_SECONDS
        while not self._locked():
            holder = os.pread(self.lock, 1024, 0).decode()
            if _lives(holder) or time.monotonic() > deadline:
                raise Refused(
                    f"{self.path} is in use by another `lookalike up` ({holder.strip() or 'starting'}). "
                    "Stop that one, or give this one its own folder with --data."
                )
            time.sleep(0.1)  # its `up` was killed and its guard is ending the parts

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def sign(self, url: str) -> None:
        """Write into the lock who holds it and where it serves, for the person whom it refuses."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"process {os.getpid()} at {url}\n".encode(), 0)

    def log(self, part: str) -> Path:
        """Where a part's output is appended; what has grown large is set aside as `.log.1`."""
        path = self.path / "logs" / f"{part}.log"
        if path.exists() and path.stat().st_size > _ROTATE_BYTES:
            path.replace(path.with_suffix(".log.1"))
        path.touch()
        return path


def _lives(holder: str) -> bool:
    if not holder.startswith("process "):
        return True
    try:
        os.kill(int(holder.split()[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def tail(log: Path, since: int) -> str:
    """The last lines that were written after the byte `since`."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(since, end - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  | {line}" for line in lines) or "  | (it wrote nothing)"

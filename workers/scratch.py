"""Folders of this machine for what is read and then let go, also where the worker that had one was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PREFIX = "lookalike-import-"
_NEWBORN_SECONDS = 60.0  # that a folder may stand before its maker holds it


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for the length of the block. What killed workers left behind is swept away first."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name, ExitStack() as held:
        with suppress(OSError):  # where no folder can be locked (NFS), none can be swept either
            held.enter_context(_held(name))
        yield Path(name)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is held, or another user's, or gone
            if time.time() - folder.stat().st_mtime > _NEWBORN_SECONDS:
                with _held(folder):
                    shutil.rmtree(folder)


@contextmanager
def _held(folder: str | Path) -> Iterator[None]:
    """Hold a folder as long as the block lasts, or this process; OSError where somebody does."""
    hold = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(hold)

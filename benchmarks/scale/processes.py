"""The product's processes, started as the product starts them and measured from outside."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from demo.stack import ROOT

T = TypeVar("T")

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class PartError(Exception):
    """A process did not start or did not get there; the sentence ends with its log."""


@contextmanager
def started(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    missing: Callable[[int], str | None],
) -> Iterator[psutil.Process]:
    """A process that is ready, until the end of the block. `missing` as in `cli.parts.Part`. Raises PartError."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=kept | dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(command, process, log, missing)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(
    command: Sequence[str], process: subprocess.Popen[bytes], log: Path, missing: Callable[[int], str | None]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while lacks := missing(process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            raise PartError(
                f"`{' '.join(command)}` is not ready: {lacks}\n{log.read_text(errors='replace')[-2000:]}"
            )
        time.sleep(_LOOK_SECONDS)


def cpu_seconds(process: psutil.Process) -> float:
    """Of the process, its children that live and those that ended."""
    family = [process, *process.children(recursive=True)]
    own = process.cpu_times()
    living = sum(sum(each.cpu_times()[:2]) for each in family)
    return living + own.children_user + own.children_system


def resident_bytes(process: psutil.Process) -> int:
    """Of the process and its children; pages of files that are mapped into memory count too."""
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


class Sampler(threading.Thread):
    """Looks at something every `seconds` while its block runs; `samples` has (monotonic time, value)."""

    def __init__(self, look: Callable[[], float], seconds: float = 0.2) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self._look = look
        self._seconds = seconds
        self._stopped = threading.Event()
        self._error: psutil.Error | None = None

    def run(self) -> None:
        try:
            while not self._stopped.wait(self._seconds):
                self.samples.append((time.monotonic(), self._look()))
        except psutil.Error as error:
            self._error = error

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()
        if self._error:  # what was seen before it says nothing of the whole
            raise self._error

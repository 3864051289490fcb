"""The stack's processes, and what befalls them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.system.stack import Stack

Part = Literal["worker", "store", "redis", "api"]

_WORDS: dict[Part, str] = {
    "worker": "-Q ingest",
    "store": "workers.index.store",
    "redis": "valkey",
    "api": "gunicorn",
}


def pid_of(stack: Stack, part: Part) -> int:
    """Waits for `up` to start the part again where it died a moment ago."""
    stack.until(lambda: bool(stack.processes(_WORDS[part])), f"no {part} was started again")
    return stack.processes(_WORDS[part])[0]


def kill(stack: Stack, part: Part) -> None:
    """SIGKILL, to all of its process group."""
    os.killpg(pid_of(stack, part), signal.SIGKILL)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end of the block if the process still stands."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def redis_url(stack: Stack) -> str:
    """As the stack's own processes know it."""
    return os.fsdecode(_environment(pid_of(stack, "worker"))[b"REDIS_URL"])


@contextmanager
def second_worker(stack: Stack) -> Iterator[int]:
    """The pid of one more ingest worker, started as `up` starts its own, under another name."""
    first = pid_of(stack, "worker")
    command = ["second@%h" if word.startswith("ingest@") else word for word in _command(first)]
    with (stack.data / "logs" / "second-worker.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=_environment(first),
            cwd=stack.data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _command(pid: int) -> list[str]:
    return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]


def _environment(pid: int) -> dict[bytes, bytes]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(line.split(b"=", 1) for line in lines if line)

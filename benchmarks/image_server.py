"""JPEGs over HTTP from a process of its own, which does next to nothing: whole answers wait in memory.

    python -m benchmarks.image_server

The order on its first line says which files it serves and how long each answer is held back. It shares the cores
with what is measured, so its CPU seconds are measured too. It ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from demo.stack import ROOT

_HOST = "127.0.0.1"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class ImageServer:
    """`url` serves `files`, each by its name; with any query added, so that one picture has many URLs."""

    url: str
    files: tuple[Path, ...]
    process: psutil.Process

    def urls(self, count: int, mark: str = "") -> list[str]:
        """`count` URLs, no two alike: the files in their order, again and again. `mark` makes them new ones."""
        rounds = itertools.cycle(self.files)
        return [f"{self.url}/{quote(next(rounds).name)}?n={mark}{number}" for number in range(count)]

    def cpu_seconds(self) -> float:
        """What serving has cost so far."""
        return cpu_seconds(self.process)


@contextmanager
def serving(files: Sequence[Path], delay: float = 0.0) -> Iterator[ImageServer]:
    """A server of `files` for as long as the block runs; each answer comes after `delay` seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.image_server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"files": [str(file) for file in files], "delay": delay}) + "\n")
        process.stdin.flush()
        port = int(process.stdout.readline())
        yield ImageServer(f"http://{_HOST}:{port}", tuple(files), psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has spent so far, without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


class _Connection(asyncio.Protocol):
    """Answers requests by their path alone, in their order; what else a head says is not looked at."""

    def __init__(self, answers: dict[bytes, bytes], delay: float) -> None:
        self._answers = answers
        self._delay = delay
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1].partition(b"?")[0]
            answer = self._answers.get(path, _NOT_FOUND)
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)
            else:
                self._transport.write(answer)


def _answer(file: Path) -> bytes:
    body = file.read_bytes()
    return b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def _serve(files: Sequence[Path], delay: float) -> None:
    answers = {f"/{quote(file.name)}".encode(): _answer(file) for file in files}
    loop = asyncio.get_running_loop()
    listener = socket.create_server((_HOST, 0), backlog=1024)
    await loop.create_server(lambda: _Connection(answers, delay), sock=listener)
    print(listener.getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    order = json.loads(sys.stdin.readline())
    asyncio.run(_serve([Path(file) for file in order["files"]], order["delay"]))

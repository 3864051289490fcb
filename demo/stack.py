"""`lookalike up` as a child process, from its start to its orderly end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import requests
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 300.0
STOP_SECONDS = 60.0


class StackError(Exception):
    """The stack did not start or did not stay up; the sentence says where to look."""


class Stack:
    """The child that serves on `port` of loopback and keeps everything in `data`. Its lines are shown."""

    def __init__(self, data: Path, port: int, console: Console) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._data = data
        self._console = console
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--port", str(port)],
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the stack in order
        )
        self._reader = Thread(target=self._show_lines, name="stack-lines", daemon=True)
        self._reader.start()

    def _show_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._console.print(Text(f"  │ {line.rstrip()}", style="dim"), soft_wrap=True)

    def wait_until_ready(self) -> None:
        """Return once /readyz says 200. Raises StackError."""
        deadline = time.monotonic() + READY_SECONDS
        while not _is_ready(self.url):
            if (code := self._process.poll()) is not None:
                self._reader.join(5)
                raise StackError(f"`lookalike up` ended with exit code {code}; its lines above say why.")
            if time.monotonic() > deadline:
                raise StackError(
                    f"The stack was not ready within {READY_SECONDS:.0f} s: {self.url}/readyz names the part "
                    f"that is missing, and {self._data / 'logs'} has its log."
                )
            time.sleep(0.2)

    def wait(self) -> int:
        """Block until the child ends by itself; its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """SIGTERM and patience; the second SIGTERM, after a while or at Ctrl-C, ends its parts at once."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.terminate()
            self._process.wait()
        self._reader.join(5)


@contextmanager
def running(data: Path, port: int, console: Console) -> Iterator[Stack]:
    """A stack that begins to start, and that is stopped when the block ends, however it ends."""
    stack = Stack(data, port, console)
    try:
        yield stack
    finally:
        stack.stop()


def free_port(preferred: int) -> int:
    """`preferred` where nothing on loopback has it, else one that the system chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port(0)
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    """Ours, with the demo's image server allowed and without keys: nobody else is served."""
    kept = {name: value for name, value in os.environ.items() if name != "LOOKALIKE_API_KEYS"}
    return kept | {"LOOKALIKE_FETCH_ALLOW": "127.0.0.0/8", "PYTHONUNBUFFERED": "1"}


def _is_ready(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment is no way to loopback
        try:
            return session.get(f"{url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

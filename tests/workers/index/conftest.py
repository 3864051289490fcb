"""The three ways to an index, each with its real engine."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.qdrant_server import qdrant_for_tests
from workers.index.edge import EdgeIndex
from workers.index.interface import Index
from workers.index.server import ServerIndex
from workers.index.store_client import StoreClient

ROOT = Path(__file__).parents[3]
ENGINES = ["edge", "store", "server"]


class StoreProcess:
    """`python -m workers.index.store`, to be started, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"
        self.folder = folder / "data"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "workers.index.store"]
        options = ["--socket", str(self.socket), "--folder", str(self.folder)]
        self.process = subprocess.Popen([*command, *options], cwd=ROOT)
        deadline = time.monotonic() + 60
        while not self._accepts():
            assert self.process.poll() is None, "the store ended before it was ready"
            assert time.monotonic() < deadline, "the store never accepted"
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


@contextmanager
def store_process() -> Iterator[StoreProcess]:
    # Not tmp_path: a unix socket's path may have no more than about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        process = StoreProcess(Path(folder))
        process.start()
        yield process
        process.stop(signal.SIGKILL)


@contextmanager
def opened(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Index]:
    """An empty index of one of the ENGINES, left empty."""
    index: Index
    if kind == "edge":
        index = EdgeIndex(folder)
    elif kind == "store":
        index = StoreClient(request.getfixturevalue("shared_store").socket)
    else:
        index = ServerIndex(request.getfixturevalue("qdrant_url"))
    yield index
    for collection in index.collections():
        index.drop(collection.name)
    index.close()


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    """A store process of the test's own, to be killed."""
    with store_process() as process:
        yield process


@pytest.fixture(scope="session")
def shared_store() -> Iterator[StoreProcess]:
    with store_process() as process:
        yield process


@pytest.fixture(scope="session")
def qdrant_url() -> Iterator[str]:
    """A real Qdrant server's."""
    with qdrant_for_tests() as server:
        yield server.url


@pytest.fixture(params=ENGINES)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    with opened(request.param, request, tmp_path) as opened_index:
        yield opened_index

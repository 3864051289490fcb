from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pip._internal.models.index import PyPI
from rich.console import Console

from demo.registry import DownloadError, Indexes, Sdist, configured_indexes, fetch

CONTENT = os.urandom(600_000)
SDIST = Sdist("old-radios", "Old Radios-1.0.tar.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
QUIET = Console(quiet=True)
HTML = (
    "<!DOCTYPE html><body><a>nothing</a>"
    '<a href="../../files/other-0.9.tar.gz#sha256=00">other-0.9.tar.gz</a>'
    '<a href="../../files/Old%20Radios-1.0.tar.gz#sha256=00" data-requires-python="&gt;=3">Old</a></body>'
)
JSON = json.dumps({"files": [{"filename": SDIST.filename, "url": "/files/Old%20Radios-1.0.tar.gz"}]})


class Index(ThreadingHTTPServer):
    """A package index of one project, which remembers what it was asked for."""

    def __init__(self, speaks_json: bool, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.speaks_json, self.content = speaks_json, content
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple/"


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/simple/old-radios/":
            as_json = self.server.speaks_json and "simple.v1+json" in self.headers["Accept"]
            kind = "application/vnd.pypi.simple.v1+json" if as_json else "text/html"
            self._answer(kind, (JSON if as_json else HTML).encode())
        elif self.path == "/files/Old%20Radios-1.0.tar.gz":
            self._answer("application/gzip", self.server.content)
        else:
            self.send_error(404)

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def index(*, speaks_json: bool = True, content: bytes = CONTENT) -> Iterator[Index]:
    with Index(speaks_json, content) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("speaks_json", [True, False], ids=["json", "html"])
def test_the_file_is_found_in_both_forms_of_the_simple_api(tmp_path: Path, speaks_json: bool) -> None:
    with index(speaks_json=speaks_json) as server:
        path = fetch(SDIST, tmp_path / "new" / "cache", Indexes((server.url,)), QUIET)
    assert path == tmp_path / "new" / "cache" / SDIST.filename
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_second_call_downloads_nothing(tmp_path: Path) -> None:
    with index() as server:
        fetch(SDIST, tmp_path, Indexes((server.url,)), QUIET)
        asked = list(server.asked)
        fetch(SDIST, tmp_path, Indexes((server.url,)), QUIET)
        assert server.asked == asked
        assert len(asked) == 2


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", CONTENT[:1000], CONTENT + b"more"])
def test_a_file_with_another_hash_is_refused_and_not_kept(tmp_path: Path, content: bytes) -> None:
    with index(content=content) as server, pytest.raises(DownloadError, match=SDIST.sha256):
        fetch(SDIST, tmp_path, Indexes((server.url,)), QUIET)
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_lacks_the_file_gives_way_to_the_next(tmp_path: Path) -> None:
    with index() as server:
        indexes = Indexes((f"http://127.0.0.1:{server.server_port}/empty", server.url))
        assert fetch(SDIST, tmp_path, indexes, QUIET).read_bytes() == CONTENT


def test_an_index_may_be_a_folder(tmp_path: Path) -> None:
    page = tmp_path / "my index" / "old-radios" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(HTML.replace("../../files", "."))
    (page.parent / SDIST.filename).write_bytes(CONTENT)
    indexes = Indexes(((tmp_path / "none").as_uri(), (tmp_path / "my index").as_uri()))
    assert fetch(SDIST, tmp_path / "cache", indexes, QUIET).read_bytes() == CONTENT


def test_a_file_that_no_index_lists_is_named_in_the_error(tmp_path: Path) -> None:
    with index() as server, pytest.raises(DownloadError, match=r"lists Missing-2\.0\.tar\.gz"):
        fetch(Sdist("old-radios", "Missing-2.0.tar.gz", "0" * 64, 1), tmp_path, Indexes((server.url,)), QUIET)


def test_an_index_that_does_not_answer_is_a_clear_error(tmp_path: Path) -> None:
    with index() as server:
        url = server.url
    with pytest.raises(DownloadError, match=r"Check that `pip download` works"):
        fetch(SDIST, tmp_path, Indexes((url,)), QUIET)


def test_pips_own_configuration_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://first.test/simple\ncert = /of/the/file\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://second.test/simple file:///third")
    monkeypatch.setenv("PIP_CERT", "/of/the/environment")
    assert configured_indexes() == Indexes(
        ("https://first.test/simple", "https://second.test/simple", "file:///third"), "/of/the/environment"
    )


def test_unconfigured_pip_means_its_built_in_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # pip's way to say: no file at all
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    assert configured_indexes() == Indexes((PyPI.simple_url,), True)

"""A small HTTP server that answers as the HTTP contract says, and the command line pointed at it."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import lookalike


@dataclass
class Received:
    method: str
    path: str
    query: str
    headers: Message
    body: bytes

    @property
    def parts(self) -> dict[str, list[Message]]:
        """The parts of a multipart body, by field name."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        found = defaultdict(list)
        for part in BytesParser().parsebytes(head + self.body).get_payload():
            found[part.get_param("name", header="Content-Disposition")].append(part)
        return found


@dataclass
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] | None = None


class Api:
    """Answers given in advance, each once, the last one of a path for ever; keeps what it received."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                api.received.append(Received(self.command, path, query, self.headers, body))
                answer = api.next_answer(self.command, path)
                raw = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in (answer.headers or {}).items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                if answer.status != 204:
                    self.wfile.write(raw)

            do_GET = do_POST = do_DELETE = do_PUT = answer

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._answers[method, path] = list(answers)

    def next_answer(self, method: str, path: str) -> Answer:
        answers = self._answers.get((method, path))
        if not answers:
            return problem(404, "not_found", f"Nothing stands at {path}.")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def sent(self, method: str, path: str) -> list[Received]:
        return [one for one in self.received if (one.method, one.path) == (method, path)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def problem(status: int, code: str, detail: str, **headers: str) -> Answer:
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail, "code": code}
    return Answer(body, status, headers)


def job(**fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "id": "j1",
        "collection": "images",
        "state": "done",
        "total": 3,
        "indexed": 3,
        "unchanged": 0,
        "failed": 0,
        "pending": 0,
        "failures": {},
        "images_per_second": None,
        "eta_seconds": None,
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:00:09Z",
    }
    return {**usual, **fields}


@pytest.fixture(name="answer")
def _answer() -> type[Answer]:
    return Answer


@pytest.fixture(name="problem")
def _problem() -> Callable[..., Answer]:
    return problem


@pytest.fixture(name="job")
def _job() -> Callable[..., dict[str, Any]]:
    return job


@pytest.fixture
def start_api() -> Iterator[Callable[..., Api]]:
    """Starts an API, at a port where one is wanted."""
    started: list[Api] = []

    def start(port: int = 0) -> Api:
        started.append(Api(port))
        return started[-1]

    yield start
    for api in started:
        api.close()


@pytest.fixture
def api(start_api: Callable[..., Api]) -> Api:
    return start_api()


@pytest.fixture
def run(api: Api) -> Callable[..., Result]:
    """`lookalike …`, as a person types it, with no terminal."""

    def run(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> Result:
        environment = {"LOOKALIKE_URL": api.url, "LOOKALIKE_API_KEY": "", **(env or {})}
        return CliRunner().invoke(lookalike, arguments, env=environment, **options)

    return run


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Ask until the answer is true, and return it; fail after a while."""

    def eventually(question: Callable[[], Any], seconds: float = 20) -> Any:
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)
        return answer

    return eventually

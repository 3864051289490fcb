"""The API under its real server: bodies as they come over a socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.ledger import Ledger
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
JOBS = "/v1/collections/shop/jobs"
LINE = b'{"url":"http://a.example/1.jpg"}\n'
HEAD = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n".encode()


class Server:
    """gunicorn on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(self.path))
        return connection

    def send(self, *pieces: bytes) -> tuple[int, Any]:
        """Send these bytes; the status and the JSON that come back."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, json.loads(response.read())


@pytest.fixture(scope="module")
def server(redis_url: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        path = Path(folder) / "s"
        # fmt: off
        command = [
            sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "4", "--bind", f"unix:{path}",
            "--no-control-socket", "--log-level", "warning", "api.app:create_app()",
        ]
        # fmt: on
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "REDIS_URL": redis_url})
        deadline = time.monotonic() + 60
        while not path.exists():
            assert process.poll() is None, "gunicorn ended before it was ready"
            assert time.monotonic() < deadline, "gunicorn never listened"
            time.sleep(0.02)
        yield Server(path)
        process.terminate()
        process.wait(30)


def chunked(*pieces: bytes) -> list[bytes]:
    body = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *body, b"0\r\n\r\n"]


def until_cancelled(ledger: Ledger) -> str:
    """Why the newest job was cancelled."""
    deadline = time.monotonic() + 30
    while True:
        jobs, _ = ledger.jobs(1)
        if jobs and jobs[0].state == "cancelled":
            return jobs[0].last_error or ""
        assert time.monotonic() < deadline, jobs
        time.sleep(0.02)


def test_a_body_in_chunks_is_read_to_its_end(server: Server, ledger: Ledger) -> None:
    halves = [LINE * 1000 + LINE[:10], LINE[10:] + LINE * 1000]
    status, job = server.send(*chunked(*halves))
    assert (status, job["total"], job["state"]) == (202, 2001, "queued")


def test_a_body_with_a_length_is_read_to_its_end(server: Server, ledger: Ledger) -> None:
    body = LINE * 2001
    status, job = server.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert (status, job["total"]) == (202, 2001)


def test_work_begins_while_the_body_arrives(server: Server, ledger: Ledger) -> None:
    with server.connect() as connection:
        for piece in chunked(LINE * 20_000)[:-1]:
            connection.sendall(piece)
        deadline = time.monotonic() + 30
        while ledger.pending_chunks() == 0:
            assert time.monotonic() < deadline, "no chunk was accepted"
            time.sleep(0.02)
        [job], _ = ledger.jobs(1)
        assert (job.state, job.total) == ("accepting", None)
        connection.sendall(b"0\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert json.loads(response.read())["total"] == 20_000


@pytest.mark.parametrize(
    "head", [b"Content-Length: 99999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"]
)
def test_a_client_that_goes_away_leaves_a_cancelled_job(server: Server, ledger: Ledger, head: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + head + LINE * 10_000)
    assert "The connection broke" in until_cancelled(ledger)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""])
def test_a_client_sees_its_refusal_though_it_is_still_sending(
    server: Server, ledger: Ledger, end: bytes
) -> None:
    *pieces, _ = chunked(LINE * 200 + b"{\n" + LINE * 100_000)
    status, problem = server.send(*pieces, end)
    assert (status, problem["code"]) == (400, "invalid_body")
    assert problem["detail"].startswith("Line 201")
    assert ledger.snapshot(problem["job"]).state == "cancelled"


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(server: Server, ledger: Ledger) -> None:
    status, problem = server.send(HEAD + b"Content-Length: 99999999999\r\n\r\n")
    assert (status, problem["code"]) == (413, "body_too_large")


def test_a_get_with_a_whole_url_as_id_reaches_its_route(server: Server, settings: Settings) -> None:
    path = b"/v1/collections/shop/images/https://a.example//x%2Fy.jpg/thumbnail"
    status, problem = server.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, problem["detail"]) == (404, "No thumbnail is kept of image `https://a.example//x/y.jpg`.")


def test_a_refused_body_that_trickles_does_not_hold_its_thread(server: Server, ledger: Ledger) -> None:
    with contextlib.ExitStack() as stack:
        tricklers = [stack.enter_context(server.connect()) for _ in range(4)]
        for connection in tricklers:
            connection.sendall(b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        answered = threading.Event()
        asking = threading.Thread(
            target=lambda: (server.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), answered.set())
        )
        asking.start()
        for _ in range(40):  # each byte comes before a socket's own time-out would
            if answered.wait(0.5):
                break
            for connection in tricklers:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")
        assert answered.is_set()
        asking.join()

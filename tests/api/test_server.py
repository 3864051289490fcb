"""The API under its real server: bodies as they come over a socket."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.ledger import Ledger

PATIENCE = 3  # seconds
ROOT = Path(__file__).parents[2]
JOBS = "/v1/collections/shop/jobs"
LINE = b'{"url":"http://a.example/1.jpg"}\n'
HEAD = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n".encode()


class Server:
    """gunicorn on a unix socket."""

    def __init__(self, path: Path, process: int) -> None:
        self.path = path
        self._process = process

    def worker(self) -> int:
        """The process that serves."""
        [child] = Path(f"/proc/{self._process}/task/{self._process}/children").read_text().split()
        return int(child)

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


@contextlib.contextmanager
def serving(redis_url: str, *arguments: str) -> Iterator[Server]:
    """On a unix socket, with little patience and few threads."""
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        path = Path(folder) / "s"
        ours = {"REDIS_URL": redis_url, "LOOKALIKE_READ_SECONDS": str(PATIENCE)}
        with _gunicorn(f"unix:{path}", ours, "--threads", "4", *arguments) as process:
            _until(process, path.exists)
            yield Server(path, process.pid)


@contextlib.contextmanager
def serving_over_tcp(redis_url: str, **settings: str) -> Iterator[str]:
    """On a port of its own; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    with _gunicorn("{}:{}".format(*address), {"REDIS_URL": redis_url, **settings}) as process:
        _until(process, lambda: _listens(address))
        yield "http://{}:{}".format(*address)


@contextlib.contextmanager
def _gunicorn(address: str, settings: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """As `lookalike up` starts it."""
    # fmt: off
    command = [
        sys.executable, "-m", "gunicorn", "--config", "python:api.server", "--bind", address,
        "--log-level", "warning", *arguments, "api.app:create_app()",
    ]
    # fmt: on
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _listens(address: tuple[str, int]) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(address) == 0


def _until(process: subprocess.Popen[bytes], listening: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not listening():
        assert process.poll() is None, "gunicorn ended before it was ready"
        assert time.monotonic() < deadline, "gunicorn never listened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(redis_url: str) -> Iterator[Server]:
    with serving(redis_url) as server:
        yield server


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


def test_a_get_with_a_whole_url_as_id_reaches_its_route(server: Server, redis_client: redis.Redis) -> None:
    path = b"/v1/collections/shop/images/https://a.example//x%2Fy.jpg/thumbnail"
    with server.connect() as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sent = redis_client.blpop(["search"], timeout=20)
    assert sent, "no worker was asked"
    arguments, _, _ = json.loads(base64.b64decode(json.loads(sent[1])["body"]))
    assert arguments == ["shop", "https://a.example//x/y.jpg"]


def test_a_refused_body_that_trickles_does_not_hold_its_thread(server: Server, ledger: Ledger) -> None:
    head = b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with crowd(server, head, drip=b"x") as slow:
        answered_meanwhile(server)
        assert all(status == 404 for status, _ in ends(slow))


HELD = 80  # connections of one kind: many more than threads


@contextlib.contextmanager
def crowd(server: Server, opening: bytes, drip: bytes = b"") -> Iterator[list[socket.socket]]:
    """Many connections that all send `opening` and then, if anything, `drip` for ever."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(HELD)]
        for connection in slow:
            connection.sendall(opening)
        over = threading.Event()
        dripping = threading.Thread(target=_drip, args=(slow, drip, over))
        dripping.start()
        try:
            yield slow
        finally:
            over.set()
            dripping.join()


def _drip(slow: list[socket.socket], drip: bytes, over: threading.Event) -> None:
    while drip and not over.wait(0.5):
        for connection in slow:
            with contextlib.suppress(OSError):
                connection.send(drip)


def answered_meanwhile(server: Server) -> None:
    """Others are served while the crowd stands there: each of these would otherwise wait for the crowd's end."""
    began = time.monotonic()
    for _ in range(20):
        assert server.send(LIVEZ)[0] == 200
    assert time.monotonic() - began < PATIENCE


def ends(slow: list[socket.socket]) -> list[tuple[int, str]]:
    """How the server ended each of them: status and code, (0, "") where it only closed."""
    return [_end(connection) for connection in slow]


def _end(connection: socket.socket) -> tuple[int, str]:
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        problem = json.loads(response.read())
    except (ConnectionError, http.client.BadStatusLine):
        return 0, ""
    assert response.headers["Connection"] == "close"
    return response.status, problem["code"]


LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_heads_that_dribble_hold_nobody_up_and_are_ended(server: Server) -> None:
    with crowd(server, b"GET /livez HTTP/1.1\r\nX: ", drip=b"x") as slow:
        answered_meanwhile(server)
        assert set(ends(slow)) == {(408, "request_timeout")}


def test_connections_that_say_nothing_hold_nobody_up_and_are_closed(server: Server) -> None:
    with crowd(server, b"") as slow:
        answered_meanwhile(server)
        assert set(ends(slow)) == {(0, "")}


@pytest.mark.parametrize("drip", [b"", b" "], ids=["silent", "dribbling"])
def test_bodies_that_dribble_hold_nobody_up_and_are_ended(
    server: Server, ledger: Ledger, drip: bytes
) -> None:
    with crowd(server, HEAD + b"Content-Length: 1000000\r\n\r\n" + LINE, drip) as slow:
        answered_meanwhile(server)
        assert set(ends(slow)) == {(408, "request_timeout")}


def test_chunks_that_dribble_hold_nobody_up_and_are_ended(server: Server, ledger: Ledger) -> None:
    with crowd(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", drip=b"1\r\n \r\n") as slow:
        answered_meanwhile(server)
        assert set(ends(slow)) == {(408, "request_timeout")}


def test_a_picture_that_dribbles_is_ended(server: Server, ledger: Ledger) -> None:
    head = UPLOAD + b"Content-Length: 1000000\r\n\r\n--x\r\n"
    with crowd(server, head, drip=b" ") as slow:
        answered_meanwhile(server)
        assert set(ends(slow)) == {(408, "request_timeout")}


def test_answers_that_nobody_reads_hold_nobody_up_and_are_dropped(server: Server) -> None:
    """Each asks for more than the system buffers, in a pipeline."""
    asked = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with crowd(server, asked * 5) as slow:
        answered_meanwhile(server)
        time.sleep(PATIENCE + 3)
        for connection in slow:
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(2**20):
                    received += len(piece)
            assert 0 < received < 1_400_000


def test_a_crowd_larger_than_the_house_keeps_nobody_out(redis_url: str) -> None:
    with serving(redis_url, "--worker-connections", "32") as small, crowd(small, HEAD[:-2]) as slow:
        answered_meanwhile(small)
        assert {status for status, _ in ends(slow)} == {408}


@pytest.mark.parametrize("kept", [0, 5], ids=["heads", "kept connections"])
def test_one_batch_of_events_may_bring_a_newcomer_and_those_that_leave_for_it(
    redis_url: str, kept: int
) -> None:
    with serving(redis_url, "--worker-connections", "32") as small, contextlib.ExitStack() as stack:
        small.send(LIVEZ)
        worker = small.worker()
        guests = [stack.enter_context(small.connect()) for _ in range(31)]
        for guest in guests[:kept]:
            guest.sendall(GET + b"\r\n")
            guest.recv(2**16)
        for guest in guests[kept:]:
            guest.sendall(b"GET /li")
        time.sleep(0.5)
        os.kill(worker, signal.SIGSTOP)
        newcomer = stack.enter_context(small.connect())
        for guest in guests[:3]:
            guest.sendall(GET if kept else b"v")
        os.kill(worker, signal.SIGCONT)
        newcomer.sendall(LIVEZ)
        assert newcomer.recv(2**16).startswith(b"HTTP/1.1 200 ")
        assert small.worker() == worker


def test_requests_that_wait_for_a_worker_hold_nobody_up(server: Server, ledger: Ledger) -> None:
    query = b'{"id":"x"}'
    asked = SEARCH + b"Prefer: wait=10\r\nContent-Length: %d\r\n\r\n" % len(query) + query
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(server.connect()).sendall(asked)
        time.sleep(0.5)
        answered_meanwhile(server)


def test_the_patience_is_new_in_each_request(server: Server, ledger: Ledger) -> None:
    """Together, these bodies take longer than a client may pause."""
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(LINE)
    with server.connect() as connection:
        for _ in range(8):
            connection.sendall(head)
            time.sleep(PATIENCE / 6)
            connection.sendall(LINE)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert json.loads(response.read()).get("total") == 1


def test_a_bind_to_the_world_is_refused_without_keys(redis_url: str) -> None:
    command = [sys.executable, "-m", "gunicorn", "--config", "python:api.server", "api.app:create_app()"]
    ours = {**os.environ, "REDIS_URL": redis_url}
    ended = subprocess.run(
        [*command, "--bind", "0.0.0.0:0"], cwd=ROOT, env=ours, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    assert "Serving on 0.0.0.0 without keys would let everyone in." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_upload_that_needs_more_files_than_there_are_may_come_again(
    redis_url: str, ledger: Ledger
) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    picture = b"x" * 600_000 + b"\r\n"  # large enough for a file
    body = (head + picture) * 70 + b"--x--\r\n"
    with serving(redis_url) as small:
        small.send(LIVEZ)
        resource.prlimit(small.worker(), resource.RLIMIT_NOFILE, (64, 64))
        status, problem = small.send(UPLOAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
        assert (status, problem["code"]) == (429, "backlog_full")
        assert small.send(LIVEZ)[0] == 200


def test_options_has_no_body_and_so_no_type(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"OPTIONS /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response = http.client.HTTPResponse(connection, method="OPTIONS")
        response.begin()
    assert (response.status, response.headers["Content-Type"]) == (204, None)
    assert "GET" in response.headers["Allow"]


def test_a_slow_but_steady_body_is_read_to_its_end(server: Server, ledger: Ledger) -> None:
    """It takes longer than the patience for a pause."""
    lines = LINE * 50
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (10 * len(lines)))
        for _ in range(10):
            time.sleep(PATIENCE / 7)
            connection.sendall(lines)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert json.loads(response.read())["total"] == 500


def test_pipelined_requests_are_answered_in_turn(server: Server) -> None:
    first = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(first * 3 + LIVEZ[:20])
        time.sleep(0.2)
        connection.sendall(LIVEZ[20:])
        received = b""
        while piece := connection.recv(2**16):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b'"ok"') == 4


def test_a_client_that_waits_to_be_told_to_continue_is_told(server: Server, ledger: Ledger) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(LINE))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(LINE)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 202


GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
SEARCH = (
    b"POST /v1/collections/shop/searches HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
UPLOAD = (
    b"POST /v1/collections/shop/images HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n"
)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET <script>alert(1)</script> HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /livez\x00 HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\nHost: localhost\n\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (GET + b"Content-Length: -1\r\n\r\n", 400),
        (GET + b"Content-Length: \xb2\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: magic\r\n\r\n", 501),
        (GET + b"Host: other\r\n\r\n", 400),
        (GET + b"X: a\r\n b\r\n\r\n", 400),
        (GET + b"X: a\x00b\r\n\r\n", 400),
        (GET + b"Expect: money\r\n\r\n", 417),
        (GET + b"X: y\r\n" * 101 + b"\r\n", 431),
        (GET + b"X: " + b"y" * 9_000 + b"\r\n\r\n", 431),
        (GET + b"X: " + b"y" * 1_000_000, 431),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 1_000_000, 414),
        (GET.replace(b"/livez", b"/livez?" + b"a&" * 4_000) + b"\r\n", 200),
        (GET + b"SCRIPT_NAME: /elsewhere\r\n\r\n", 200),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 20_000, 400),
        (UPLOAD + b"Content-Length: 5\r\n\r\nabcde", 422),
    ],
)
def test_what_is_no_request_is_told_so_as_a_problem(
    server: Server, ledger: Ledger, sent: bytes, status: int
) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = json.loads(response.read())
    assert (response.status, response.headers["X-Content-Type-Options"]) == (status, "nosniff"), body
    assert response.headers["X-Request-Id"]
    if status != 200:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert (body["status"], body["request_id"]) == (status, response.headers["X-Request-Id"])
        assert "Traceback" not in body["detail"]


def test_a_smuggled_request_is_never_answered(server: Server, ledger: Ledger) -> None:
    smuggled = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled)
        received = b""
        while piece := connection.recv(2**16):
            received += piece
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"400 Bad Request" in received

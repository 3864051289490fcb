"""gunicorn as the API runs it: `gunicorn --config python:api.server 'api.app:create_app()'`.

gunicorn's threads would wait for their clients without end. Here its loop reads the heads, so that only a whole one
takes a thread; a thread that waits for its client lets another one work; and nobody waits for longer than a
`Connection` does.
"""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any

from gunicorn import util
from gunicorn.errors import AppImportError
from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from api import limits
from api.access import refuse_open_door
from api.connection import Connection, too_slow
from api.headers import HEADERS
from api.problems import problem, problem_of
from shared.errors import RequestCode, StartError
from shared.settings import Settings

# gunicorn reads these; its command line goes before them.
worker_class = "api.server.Worker"
threads = 16  # that work at once
worker_connections = 256  # that are open at once, and so threads that may wait for their clients
limit_request_line = 8190
sendfile = False  # it goes around the Connection
forwarder_headers = ""  # nobody renames the path from outside
timeout = 120
graceful_timeout = 5
control_socket_disable = True

_BREATH_SECONDS = 0.1  # before the next try, where the system has no descriptor left

_REFUSALS = (
    (errors.LimitRequestLine, 414, f"The URL is longer than {limit_request_line:,} bytes."),
    (errors.LimitRequestHeaders, 431, "The request has too many headers, or too large ones."),
    (errors.ExpectationFailed, 417, "`Expect` may only be `100-continue`."),
    (errors.UnsupportedTransferCoding, 501, "`Transfer-Encoding` may only be `chunked`."),
)


class Visit(TConn):
    """One open connection. `refusal` is set where its head was no request."""

    refusal: Exception | None = None

    def close(self, graceful: bool = False) -> None:
        util.close(self.sock)  # its thread has lingered, the loop must not


class Worker(ThreadWorker):
    """gunicorn's threads, with time limits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds = Settings().read_seconds
        self._places = threading.Semaphore(self.cfg.threads)
        self._visits: weakref.WeakSet[Visit] = weakref.WeakSet()
        self._heads: dict[Visit, None] = {}  # visits whose next head is awaited
        self._crowded = False

    def init_process(self) -> None:
        _allow_all_descriptors()
        super().init_process()

    def load_wsgi(self) -> None:
        """gunicorn says an AppImportError in its one sentence, and stops."""
        try:
            _refuse_strangers(self.sockets)
            super().load_wsgi()
        except StartError as error:
            raise AppImportError(str(error)) from error

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.worker_connections)

    def accept(self, listener: Any) -> None:
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionAbortedError):
                self.log.warning("No connection was accepted: %s", error)
                self._crowded = True
                time.sleep(_BREATH_SECONDS)
            return
        visit = Visit(
            self.cfg, Connection(accepted, self._seconds, self._places), address, listener.getsockname()
        )
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._crowded = True
        self._visits.add(visit)
        self.enqueue_req(visit)

    def enqueue_req(self, conn: Visit) -> None:
        """A request may begin: read its head in the loop, and only then give it to a thread."""
        conn.data_ready = True
        conn.sock.setblocking(False)
        if conn.parser:
            conn.sock.head += conn.parser.unreader.take_buffered()  # what was pipelined
        conn.sock.until = time.monotonic() + self._seconds
        self._heads[conn] = None
        self.poller.register(conn.sock, EVENT_READ, partial(self._read_head, conn))
        self._read_head(conn)

    def _read_head(self, conn: Visit, _: object = None) -> None:
        if conn not in self._heads:
            return
        try:
            whole = conn.sock.read_head()
        except OSError:
            self._dismiss(conn)
            return
        head = conn.sock.head
        if not whole and len(head) <= limits.MAX_HEAD_BYTES:
            return
        if not whole:
            conn.refusal = (
                errors.LimitRequestHeaders("head") if b"\n" in head else errors.LimitRequestLine(0, 0)
            )
        self._forget_head(conn)
        super().enqueue_req(conn)

    def _forget_head(self, conn: Visit) -> None:
        del self._heads[conn]
        self.poller.unregister(conn.sock)
        conn.sock.until = None

    def _dismiss(self, conn: Visit, refusal: Exception | None = None) -> None:
        """Close a connection whose head never came."""
        self._forget_head(conn)
        if refusal and conn.sock.head:
            self.handle_error(None, conn.sock, conn.client, refusal)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """gunicorn's loop calls this after its events, and every second.

        Only here are connections closed: one that is closed between events may have one of its own among them.
        """
        if self._crowded:
            self._crowded = False
            self._make_room()
        now = time.monotonic()
        for conn in list(self._heads):
            if conn.sock.until <= now or not (self.alive or conn.sock.head):
                self._dismiss(conn, too_slow(self._seconds))

    def _make_room(self) -> None:
        """Idle connections go, else the one that would be given up first: so a newcomer is never kept out."""
        if self.keepalived_conns:
            self.murder_keepalived(force=True)
            return
        waiting = [(until, id(conn), conn) for conn in self._visits if (until := conn.sock.until) is not None]
        if not waiting:
            return
        *_, conn = min(waiting)
        if conn in self._heads:
            self._dismiss(conn, too_slow(self._seconds))
        else:
            conn.sock.give_up()

    def handle(self, conn: Visit) -> bool:
        """In a thread: a request from its head to its answer. True where the connection is kept."""
        conn.sock.renew()
        with self._places:
            kept = False
            if conn.refusal:
                conn.sock.setblocking(True)
                self.handle_error(None, conn.sock, conn.client, conn.refusal)
            else:
                kept = super().handle(conn)
            if not kept:
                util.close_graceful(conn.sock, limits.LINGER_SECONDS, max_drain=limits.LINGER_BYTES)
        return kept

    def handle_request(self, req: Any, conn: Visit) -> bool:
        """An answer that leaves some of its request unread says that the connection ends with it."""
        ends = req.should_close
        req.should_close = lambda: ends() or _is_unread(req.body.reader)
        return bool(super().handle_request(req, conn))

    def handle_error(self, req: Any, client: Connection, addr: Any, exc: Exception) -> None:
        """What gunicorn itself refuses, and whatever broke outside of the application."""
        members = {**_problem(exc), "request_id": uuid.uuid4().hex}
        if members["status"] >= 500:
            self.log.error("Request %s broke", members["request_id"], exc_info=exc)
        with suppress(OSError):
            client.sendall(_answer(members))


def _allow_all_descriptors() -> None:
    """The usual soft limit, 1024, is for what cannot count further; each connection and large picture takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where the system has another limit below its hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _refuse_strangers(listeners: Iterable[Any]) -> None:
    """`--bind` may say something else than LOOKALIKE_HOST. StartError where keys are missing for it."""
    if Settings().api_keys is not None:
        return
    for listener in listeners:
        if listener.family != socket.AF_UNIX:
            refuse_open_door(listener.getsockname()[0], "bind to 127.0.0.1")


def _is_unread(body: Any) -> bool:
    """gunicorn's two readers: of a length that is left, of chunks up to the last."""
    return bool(getattr(body, "length", 0) or getattr(body, "parser", None))


def _problem(error: Exception) -> dict[str, Any]:
    for kind, status, detail in _REFUSALS:
        if isinstance(error, kind):
            return problem(RequestCode.INVALID_REQUEST, detail, status)
    if isinstance(error, errors.ParseException):
        return problem(RequestCode.INVALID_REQUEST, f"This is no HTTP request: {str(error)[:200]}.", 400)
    return problem_of(error)


def _answer(members: dict[str, Any]) -> bytes:
    body = json.dumps(members).encode()
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-Id": members["request_id"],
        **HEADERS,
    }
    status = members["status"]
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {headers[name]}" for name in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body

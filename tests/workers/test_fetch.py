from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.errors import FailureCode, ItemError, StartError
from shared.settings import Settings
from tests.image_server import ENDLESS, ImageServer, gzip_bomb, jpeg, png
from workers.fetch import Fetched, Fetcher, Known, place_of
from workers.hosts import NoTurn

LOOPBACK = "127.0.0.0/8, ::1/128"


@contextlib.contextmanager
def fetching(allow: str = LOOPBACK, timeout: float = 30.0, **settings: Any) -> Iterator[Fetcher]:
    fetcher = Fetcher(
        Settings.model_validate(
            {"fetch_allow": allow, "fetch_timeout": timeout, "fetch_threads": 16, **settings}
        )
    )
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer({"/a.jpg": jpeg(1), "/ä b.jpg": jpeg(2)}) as server:
        yield server


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    with fetching() as fetcher:
        yield fetcher


@pytest.fixture(scope="module")
def hurried() -> Iterator[Fetcher]:
    with fetching(timeout=0.8) as fetcher:
        yield fetcher


def failure(fetcher: Fetcher, url: str) -> ItemError:
    with pytest.raises(ItemError) as caught:
        fetcher.fetch(url)
    return caught.value


class Scripted:
    """A TCP server that answers each request on a connection with the next of `replies`, then closes it."""

    def __init__(self, *replies: bytes) -> None:
        self.received: list[bytes] = []
        self._replies = replies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        for reply in self._replies:
            self.received.append(connection.recv(65536))
            connection.sendall(reply)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


# What good servers send


def test_an_image_arrives_whole_with_its_url(fetcher: Fetcher, server: ImageServer) -> None:
    assert fetcher.fetch(server.url("/png/7.png")) == Fetched(png(7), server.url("/png/7.png"))


def test_the_url_is_the_one_after_all_redirects(fetcher: Fetcher, server: ImageServer) -> None:
    fetched = fetcher.fetch(server.url("/redirect?to=/redirect?to=/a.jpg%23top"))
    assert fetched == Fetched(jpeg(1), server.url("/a.jpg"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(status: int, fetcher: Fetcher, server: ImageServer) -> None:
    assert fetcher.fetch(server.url(f"/redirect?status={status}&to=/a.jpg")).data == jpeg(1)


@pytest.mark.parametrize("path", ["/ä b.jpg", "/%C3%A4%20b.jpg", "/%c3%a4%20b.jpg#x"])
def test_a_path_is_quoted_where_its_writer_did_not(path: str, fetcher: Fetcher, server: ImageServer) -> None:
    assert fetcher.fetch(f" {server.url(path)}\n").data == jpeg(2)


def test_a_redirect_in_plain_utf8_is_understood(fetcher: Fetcher, server: ImageServer) -> None:
    location = server.url("/ä b.jpg").encode()
    with Scripted(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n") as there:
        assert fetcher.fetch(there.url()).data == jpeg(2)


def test_bodies_chunked_and_without_a_length_arrive_whole(fetcher: Fetcher) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    with Scripted(head + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n") as there:
        assert fetcher.fetch(there.url()).data == b"abcde"
    with Scripted(head + b"Connection: close\r\nContent-Encoding: identity\r\n\r\nabcde") as there:
        assert fetcher.fetch(there.url()).data == b"abcde"


def test_what_is_not_an_image_is_not_judged_here(fetcher: Fetcher, server: ImageServer) -> None:
    assert fetcher.fetch(server.url("/html.jpg")).data.startswith(b"<!doctype html>")
    assert fetcher.fetch(server.url("/truncated.jpg")).data == jpeg(1)[: len(jpeg(1)) // 2]


def test_many_threads_share_one_fetcher(server: ImageServer, fetcher: Fetcher) -> None:
    images = [jpeg(seed) for seed in range(8)]
    with ThreadPoolExecutor(32) as threads:
        bodies = list(threads.map(lambda n: fetcher.fetch(server.url(f"/jpeg/{n % 8}.jpg")).data, range(320)))
    assert bodies == images * 40


def test_one_connection_serves_many_fetches_failures_and_redirects_among_them() -> None:
    with ImageServer() as server, fetching() as fetcher:
        for _ in range(3):
            fetcher.fetch(server.url("/redirect?to=/jpeg/1.jpg"))
            failure(fetcher, server.url("/missing"))
            failure(fetcher, server.url("/empty"))
            failure(fetcher, server.url("/status?code=500"))
        assert server.connections == 1


def test_a_server_that_was_restarted_is_connected_to_anew() -> None:
    with ImageServer() as server, fetching() as fetcher:
        fetcher.fetch(server.url("/jpeg/1.jpg"))
        server.drop_connections()
        assert fetcher.fetch(server.url("/jpeg/1.jpg")).data == jpeg(1)
        assert server.connections == 2


def test_a_kept_connection_that_breaks_as_it_is_used_again_is_no_failure(fetcher: Fetcher) -> None:
    # Each connection answers once; what is asked on it next gets a closed connection for an answer.
    with Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"") as there:
        for number in range(3):
            assert fetcher.fetch(there.url(f"/{number}")).data == b"ok"
        asked = [request.split()[1] for request in there.received if request]
        assert asked == [b"/0", b"/1", b"/1", b"/2", b"/2"]


# What is sent


def test_a_request_says_who_asks_and_takes_no_encoding() -> None:
    with (
        Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx") as there,
        fetching(fetch_user_agent="Lookalike/test (+https://shop.example)") as fetcher,
    ):
        fetcher.fetch(there.url("/a?b#c"))
        lines = there.received[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b HTTP/1.1"
    assert set(lines[1:]) - {""} == {
        "User-Agent: Lookalike/test (+https://shop.example)",
        "Accept: */*",
        "Accept-Encoding: identity",
        f"Host: 127.0.0.1:{there.port}",
    }


def test_cookies_are_not_kept(fetcher: Fetcher, server: ImageServer) -> None:
    for _ in range(2):
        assert fetcher.fetch(server.url("/cookie")).data == jpeg(1)


def test_proxies_and_netrc_of_the_environment_are_not_used(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    with Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx") as there, Canary() as proxy:
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with fetching() as fetcher:
            fetcher.fetch(there.url())
        assert b"authorization" not in there.received[0].lower()
        assert not proxy.was_reached()


# The operator's headers

SECRET = "Bearer canary-51c7"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


def redirecting(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def test_the_operators_headers_go_to_their_origin_and_replace_our_own() -> None:
    with Scripted(ANSWER, ANSWER) as ours, Scripted(ANSWER) as other:
        headers = {f"HTTP://127.0.0.1:{ours.port}": {"authorization": SECRET, "user-agent": "Shop"}}
        with fetching(fetch_headers=headers) as fetcher:
            for url in ours.url(), other.url(), ours.url():
                fetcher.fetch(url)
    for request in ours.received[:2]:
        assert f"authorization: {SECRET}\r\n".encode() in request
        assert b"user-agent: Shop\r\n" in request
        assert b"Lookalike" not in request
    assert b"canary" not in other.received[0]


def test_the_operators_headers_follow_no_redirect_to_another_origin() -> None:
    with contextlib.ExitStack() as servers:
        last = servers.enter_context(Scripted(ANSWER))
        middle = servers.enter_context(Scripted(redirecting(last.url("/end"))))
        first = servers.enter_context(Scripted(redirecting(middle.url()), ANSWER))
        headers = {f"http://127.0.0.1:{one.port}": {"X-Token": SECRET} for one in (first, last)}
        with fetching(fetch_headers=headers) as fetcher:
            fetcher.fetch(first.url())
    assert [SECRET.encode() in one.received[0] for one in (first, middle, last)] == [True, False, True]


def test_another_host_name_for_the_same_server_gets_no_header() -> None:
    with Scripted(ANSWER) as there:
        with fetching(fetch_headers={f"http://127.0.0.1:{there.port}": {"X-Token": SECRET}}) as fetcher:
            fetcher.fetch(there.url().replace("127.0.0.1", "localhost"))
        assert b"canary" not in there.received[0]


def test_a_secret_stands_in_no_error_and_no_log(
    server: ImageServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    origin = server.url("").rstrip("/")
    with fetching(timeout=0.5, fetch_headers={origin: {"Authorization": SECRET}}) as fetcher:
        for path in "/missing", "/reset", "/slow", "/http-0.9", "/many-headers", "/short.jpg", "/gzip":
            error = failure(fetcher, server.url(path))
            assert "canary" not in f"{error!r} {error.__dict__} {error.__cause__!r}"
    assert "canary" not in caplog.text


def test_misspelt_headers_stop_the_start() -> None:
    with pytest.raises(StartError), fetching(fetch_headers={"cdn.shop.example": {"X-Token": SECRET}}):
        pass


# Whose turn it is


def test_no_more_connections_are_opened_to_a_host_than_it_may_have() -> None:
    with ImageServer() as server, fetching(fetch_per_host=2) as fetcher, ThreadPoolExecutor(8) as threads:
        list(threads.map(fetcher.fetch, [server.url("/slow?seconds=0.05")] * 16))
        assert server.connections <= 2


def test_waiting_for_a_turn_does_not_count_as_the_hosts_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.hosts.WAIT_SECONDS", 60.0)
    with (
        ImageServer() as server,
        fetching(timeout=2, fetch_per_host=1) as fetcher,
        ThreadPoolExecutor(4) as threads,
    ):
        bodies = list(threads.map(fetcher.fetch, [server.url("/slow?seconds=0.8")] * 4))
    assert [body.data for body in bodies] == [jpeg(1)] * 4


def test_one_slow_host_does_not_hold_all_threads(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.hosts.WAIT_SECONDS", 0.2)
    with ImageServer() as slow, fetching(fetch_per_host=2) as fetcher, ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(fetcher.fetch, slow.url("/slow?seconds=20")) for _ in range(8)]
        good = [threads.submit(fetcher.fetch, server.url("/a.jpg")) for _ in range(8)]
        assert [future.result().data for future in good] == [jpeg(1)] * 8
        assert sum(not future.done() for future in waiting) == 2
        assert [type(future.exception()) for future in waiting if future.done()] == [NoTurn] * 6
        slow.stop()


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_refuses_is_spared_for_all_its_urls_and_no_other_host_is(
    status: int, server: ImageServer
) -> None:
    with ImageServer() as busy, fetching() as fetcher:
        failure(fetcher, busy.url(f"/status?code={status}&retry-after=60"))
        for url in busy.url("/jpeg/1.jpg"), server.url(f"/redirect?to={busy.url('/jpeg/1.jpg')}"):
            error = failure(fetcher, url)
            assert error.code is FailureCode.HTTP_STATUS
            assert error.again_after is not None
            assert 30 < error.again_after <= 60
        assert busy.requests == {"/status": 1}
        assert fetcher.fetch(server.url("/a.jpg")).data == jpeg(1)


# Where a fetch may go


class Canary:
    """Listens on every address of this machine and tells whether anybody connected."""

    def __init__(self) -> None:
        self._listener = socket.create_server(
            ("::", 0) if socket.has_dualstack_ipv6() else ("0.0.0.0", 0),
            family=socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET,
            dualstack_ipv6=socket.has_dualstack_ipv6(),
        )
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]

    def was_reached(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Canary:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canary]:
    """Its port counts as the web's, so that the address rule alone stands between a fetch and it."""
    with Canary() as canary:
        monkeypatch.setattr("workers.addresses.WEB_PORTS", {canary.port})
        yield canary


@pytest.fixture(scope="module")
def public_only() -> Iterator[Fetcher]:
    with fetching(allow="", timeout=5) as fetcher:
        yield fetcher


SPELLINGS = """
    127.0.0.1 127.0.0.2 127.1 127.0.1 0 0.0.0.0 2130706433 0x7f000001 0x7f.0.0.1 0x7F.1 0177.0.0.1 017700000001
    0x00000000007f.1 127.0.0.1. 127.1. 2130706433. 127.0.0.01 localhost LOCALHOST localhost.
    [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::FFFF:7F00:0001] [::127.0.0.1]
    [::1%lo] [::1%25lo] [fe80::1%25lo] [64:ff9b::7f00:1] [2002:7f00:1::] [::ffff:0:127.0.0.1]
    127。0。0。1 127.0.0.1 127。1 １２７.0.0.1 ①②⑦.0.0.1 ⓛocalhost localhost。
    %31%32%37.0.0.1 127%2e0%2e0%2e1 127%2E1 %6cocalhost 127.0.0.1%00 127.0.0.1%00.example.com %5b::1%5d
    127.0.0.1%2f.example.com 127.0.0.1%09 example.com@127.0.0.1 :@127.0.0.1 a:b@localhost example.com%40127.0.0.1
"""
ODD_SPELLINGS = ["127.0.0.1\t", "127.0.0.1\x00", "loca\nlhost", "loc\u00adalhost", "\ud800localhost"]


@pytest.mark.parametrize("host", [*SPELLINGS.split(), *ODD_SPELLINGS])
def test_no_spelling_of_this_machine_is_connected_to(host: str, public_only: Fetcher, canary: Canary) -> None:
    error = failure(public_only, f"http://{host}:{canary.port}/a.jpg")
    assert error.code in (FailureCode.ADDRESS_REFUSED, FailureCode.BAD_URL)
    assert not error.retryable
    assert not canary.was_reached()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}\\@example.com/",
        "http://127.0.0.1:{port}#@example.com/",
        "http://127.0.0.1:{port}?@example.com/",
        "http:\\\\127.0.0.1:{port}/",
        "http:127.0.0.1:{port}/",
        "http:/127.0.0.1:{port}/",
        "http:///127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "127.0.0.1:{port}/a.jpg",
        "HTTPS://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}:{port}/",
        "http://127.0.0.1:0x50/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://[::1]x:{port}/",
    ],
)
def test_no_trick_of_syntax_reaches_this_machine(url: str, public_only: Fetcher, canary: Canary) -> None:
    error = failure(public_only, url.format(port=canary.port))
    assert error.code in (FailureCode.ADDRESS_REFUSED, FailureCode.BAD_URL)
    assert not canary.was_reached()


def test_the_canary_would_sing(canary: Canary) -> None:
    with fetching(timeout=0.3) as fetcher:
        assert failure(fetcher, f"http://127.0.0.1:{canary.port}/").code is FailureCode.TIMEOUT
    assert canary.was_reached()


def test_a_redirect_to_an_internal_address_is_refused(server: ImageServer, canary: Canary) -> None:
    with fetching(allow="127.0.0.1/32") as fetcher:
        error = failure(fetcher, server.url(f"/redirect?to=http://127.0.0.2:{canary.port}/secret"))
    assert error.code is FailureCode.ADDRESS_REFUSED
    assert error.detail == (
        f"`http://127.0.0.2:{canary.port}/secret` leads to an address that is not public (the worker's log has it); "
        "LOOKALIKE_FETCH_ALLOW can allow it."
    )
    assert not canary.was_reached()


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    server: ImageServer, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))],
    )
    url = server.url("/a.jpg").replace("127.0.0.1", "rebind.example")
    with fetching(allow="127.0.0.1/32") as fetcher:
        for _ in range(2):
            assert fetcher.fetch(url).data == jpeg(1)
            server.drop_connections()
        monkeypatch.setattr("workers.addresses.CACHE_SECONDS", -1.0)
        server.drop_connections()
        assert failure(fetcher, url).code is FailureCode.ADDRESS_REFUSED


def test_the_next_address_is_tried_when_one_does_not_answer(
    server: ImageServer, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in ("127.0.0.9", "127.0.0.1")
        ],
    )
    url = server.url("/a.jpg").replace("127.0.0.1", "two.example")
    assert fetcher.fetch(url).data == jpeg(1)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "picture.jpg",
        "/a.jpg",
        "ftp://shop.example/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "gopher://shop.example/",
        "javascript:alert(1)",
        "http://",
        "http://:80/",
        "http://[::1/",
        "http://shop.example:port/",
        "http://someone:secret@shop.example/a.jpg",
        "http://someone@shop.example/a.jpg",
        "http://sh op.example/",
        "http://shop..example/",
        "http://" + "x" * 64 + ".example/",
        "http://shop.example/" + "x" * 8192,
        "http://shop.example/" + "ä" * 4096,
    ],
)
def test_a_url_that_is_not_to_be_fetched_is_bad(url: str, fetcher: Fetcher) -> None:
    error = failure(fetcher, url)
    assert error.code is FailureCode.BAD_URL
    assert not error.retryable
    assert "secret" not in error.detail
    assert len(error.detail) < 400


@pytest.mark.parametrize(
    "location",
    [
        "ftp://shop.example/a.jpg",
        "file:///etc/passwd",
        "http://[::1",
        "http://",
        "http://a:b@c/",
        "\xff\xfe://",
    ],
)
def test_a_redirect_to_a_bad_url_is_bad(location: str, fetcher: Fetcher) -> None:
    reply = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode("latin-1")
    with Scripted(reply) as there:
        error = failure(fetcher, there.url())
    # An unknown scheme reads as a relative path and ends in that server's next redirect.
    assert error.code in (FailureCode.BAD_URL, FailureCode.TOO_MANY_REDIRECTS)


def test_a_redirect_loop_has_an_end(fetcher: Fetcher, server: ImageServer) -> None:
    server.requests.clear()
    error = failure(fetcher, server.url("/redirect-loop"))
    assert error.code is FailureCode.TOO_MANY_REDIRECTS
    assert server.requests["/redirect-loop"] == 6


def test_no_redirect_is_followed_where_none_is_allowed(server: ImageServer) -> None:
    with fetching(fetch_max_redirects=0) as fetcher:
        assert failure(fetcher, server.url("/redirect")).code is FailureCode.TOO_MANY_REDIRECTS
        assert fetcher.fetch(server.url("/a.jpg")).data == jpeg(1)


def test_the_endless_body_of_a_redirect_is_not_read(hurried: Fetcher, server: ImageServer) -> None:
    assert hurried.fetch(server.url("/redirect-endless")).data == jpeg(1)


# What hostile servers send


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *[(status, False) for status in (204, 206, 304, 400, 403, 404, 410, 451)],
        *[(status, True) for status in (408, 425, 429, 500, 503, 520)],
    ],
)
def test_a_status_is_told_and_whether_it_may_pass(status: int, retryable: bool, server: ImageServer) -> None:
    with fetching() as fetcher:
        error = failure(fetcher, server.url(f"/status?code={status}&retry-after=7"))
    assert error.code is FailureCode.HTTP_STATUS
    assert str(status) in error.detail
    assert error.retryable is retryable
    assert error.again_after == (7 if retryable else None)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("path", ["/dribble", "/dribble-headers", "/endless", "/slow"])
def test_a_server_that_takes_too_long_is_a_timeout(path: str, hurried: Fetcher, server: ImageServer) -> None:
    error = failure(hurried, server.url(path))
    assert error.code is FailureCode.TIMEOUT
    assert error.again_after == 0
    assert "LOOKALIKE_FETCH_TIMEOUT" in error.detail


@pytest.mark.timeout(30)
def test_the_deadline_holds_on_a_kept_connection() -> None:
    with ImageServer() as server, fetching(timeout=0.8) as fetcher:
        fetcher.fetch(server.url("/jpeg/1.jpg"))
        assert failure(fetcher, server.url("/endless")).code is FailureCode.TIMEOUT
        assert server.connections == 1


def test_the_deadline_spans_redirects(hurried: Fetcher, server: ImageServer) -> None:
    url = server.url("/redirect?after=0.4&to=/redirect?after=0.4%26to=/redirect?after=0.4")
    assert failure(hurried, url).code is FailureCode.TIMEOUT


def test_a_resolver_that_hangs_is_a_timeout(hurried: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answering.wait(30))
    error = failure(hurried, "http://hang.example/")
    answering.set()
    assert error.code is FailureCode.TIMEOUT


def test_a_host_that_accepts_no_connection_is_a_timeout(hurried: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):  # the queue is full, so that the next SYN is not answered
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        error = failure(hurried, f"http://127.0.0.1:{full.getsockname()[1]}/")
    assert error.code is FailureCode.TIMEOUT


def test_dribbles_do_not_hold_up_good_servers(hurried: Fetcher, server: ImageServer) -> None:
    def outcome(path: str) -> bytes | FailureCode:
        try:
            return hurried.fetch(server.url(path)).data
        except ItemError as error:
            return error.code

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(outcome, ["/dribble", "/a.jpg"] * 8))
    assert outcomes == [FailureCode.TIMEOUT, jpeg(1)] * 8


@pytest.mark.parametrize("path", ["/huge", "/huge-without-length", "/huge-chunked"])
def test_a_body_over_the_cap_is_too_large(path: str, fetcher: Fetcher, server: ImageServer) -> None:
    error = failure(fetcher, server.url(path))
    assert error.code is FailureCode.TOO_LARGE
    assert "20,971,520" in error.detail
    assert not error.retryable


def test_the_cap_itself_is_not_too_large() -> None:
    files = {"/fits": bytes(2048), "/over": bytes(2049)}
    with ImageServer(files) as server, fetching(fetch_max_bytes=2048) as fetcher:
        assert len(fetcher.fetch(server.url("/fits")).data) == 2048
        assert failure(fetcher, server.url("/over")).code is FailureCode.TOO_LARGE


def test_an_encoded_body_is_refused(fetcher: Fetcher, server: ImageServer) -> None:
    error = failure(fetcher, server.url("/gzip"))
    assert error.code is FailureCode.CONTENT_ENCODING
    assert "gzip" in error.detail


def test_no_bytes_are_empty(fetcher: Fetcher, server: ImageServer) -> None:
    assert failure(fetcher, server.url("/empty")).code is FailureCode.EMPTY
    with Scripted(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") as there:
        assert failure(fetcher, there.url()).code is FailureCode.EMPTY


@pytest.mark.parametrize("path", ["/short.jpg", "/short-chunked"])
def test_a_body_that_ends_too_early_is_truncated(path: str, fetcher: Fetcher, server: ImageServer) -> None:
    error = failure(fetcher, server.url(path))
    assert error.code is FailureCode.TRUNCATED
    assert error.again_after == 0


@pytest.mark.parametrize("path", ["/reset", "/reset-midway"])
def test_a_reset_is_connect_failed(path: str, fetcher: Fetcher, server: ImageServer) -> None:
    error = failure(fetcher, server.url(path))
    assert error.code is FailureCode.CONNECT_FAILED
    assert error.again_after == 0


def test_a_failure_is_told_by_its_own_cause_not_by_the_callers_troubles(
    fetcher: Fetcher, server: ImageServer
) -> None:
    try:
        raise TimeoutError
    except TimeoutError:
        error = failure(fetcher, server.url("/reset"))
    assert error.code is FailureCode.CONNECT_FAILED


def test_a_server_that_asks_to_be_asked_later_is_not_asked_again(server: ImageServer) -> None:
    server.requests.clear()
    with fetching() as fetcher:
        error = failure(fetcher, server.url("/error"))
    assert error.code is FailureCode.HTTP_STATUS
    assert error.again_after == 30
    assert server.requests["/error"] == 1


def test_a_closed_port_is_connect_failed(fetcher: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = failure(fetcher, f"http://127.0.0.1:{port}/")
    assert error.code is FailureCode.CONNECT_FAILED
    assert error.again_after == 0
    assert "refused" in error.detail.lower()


def test_a_name_that_does_not_exist_is_dns_failed(fetcher: Fetcher) -> None:
    assert failure(fetcher, "http://nowhere.invalid/a.jpg").code is FailureCode.DNS_FAILED


@pytest.mark.parametrize(
    "path", ["/missing", "/gzip", "/empty", "/huge", "/redirect-loop", "/redirect?to=ftp://a"]
)
def test_a_fault_that_stays_is_not_worth_another_try(
    path: str, fetcher: Fetcher, server: ImageServer
) -> None:
    assert failure(fetcher, server.url(path)).again_after is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "path",
    [
        *(path for path in ENDLESS if path != "/redirect-endless"),
        *(
            "/dribble",
            "/endless",
            "/huge-chunked",
            "/gzip-bomb",
            "/many-headers",
            "/http-0.9",
            "/redirect-loop",
        ),
        "/length-twice",
    ],
)
def test_no_flood_outlives_the_deadline_or_fills_the_memory(path: str, server: ImageServer) -> None:
    cap = 2**20
    gzip_bomb()  # made before the memory is watched
    with fetching(timeout=1, fetch_max_bytes=cap) as fetcher:
        tracemalloc.start()
        started = time.monotonic()
        failure(fetcher, server.url(path))
        took = time.monotonic() - started
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert took < 10  # the deadline of 1 s, and much patience with a busy machine: the servers never end
    assert most < 4 * cap


@pytest.mark.parametrize(
    "path", ["/endless-continue-headers", "/endless-trailers", "/endless-chunk-extensions"]
)
def test_bytes_that_are_no_body_count_too(path: str, server: ImageServer) -> None:
    with fetching(fetch_max_bytes=2**20) as fetcher:
        error = failure(fetcher, server.url(path))
    assert error.code is FailureCode.TOO_LARGE
    assert "LOOKALIKE_FETCH_MAX_BYTES" in error.detail


def test_a_length_that_lies_does_not_spoil_the_next_fetch(fetcher: Fetcher, server: ImageServer) -> None:
    for _ in range(3):
        assert fetcher.fetch(server.url("/length-too-small")).data == jpeg(1)[:10]
        assert fetcher.fetch(server.url("/length-negative")).data == bytes(100)
        assert fetcher.fetch(server.url("/a.jpg")).data == jpeg(1)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x00" * 1000,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>HTTP 0.9</html>",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000,
        OK + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\nbody",
        OK + b"X-Long: " + b"y" * 100_000 + b"\r\n\r\nbody",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000 + b"\r\nabc",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation:\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999999\r\n\r\nabc",
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\nContent-Encoding: x\r\n\r\nabc",
        OK + b"Set-Cookie: \xff\xfe=\x01; expires=never; domain=.\r\nContent-Length: 0\r\n\r\n",
        OK + b"no colon here\r\n: no name\r\n\xe2\x82\xac: euro\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Type: \xff; charset=\x00\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_no_weird_reply_is_more_than_an_item_error(reply: bytes, fetcher: Fetcher) -> None:
    with Scripted(reply) as there:
        error = failure(fetcher, there.url())
    assert len(error.detail) < 600


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for `localhost` that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("the TLS tests make their certificate with the openssl command, which is not here")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    )
    subprocess.run(
        command.split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def tls_server(authority: Path) -> Iterator[ImageServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "certificate.pem", authority / "key.pem")
    with ImageServer(tls=context) as server:
        yield server


@pytest.fixture
def trusting(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetcher]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "certificate.pem"))
    with fetching(timeout=2) as fetcher:
        yield fetcher


def test_a_trusted_server_is_fetched_from_over_kept_connections(
    tls_server: ImageServer, trusting: Fetcher
) -> None:
    before = tls_server.connections
    for _ in range(3):
        assert trusting.fetch(tls_server.url("/jpeg/5.jpg")).data == jpeg(5)
    assert tls_server.connections == before + 1


def test_https_may_redirect_to_http_and_back(
    tls_server: ImageServer, server: ImageServer, trusting: Fetcher
) -> None:
    there = server.url(f"/redirect?to={tls_server.url('/jpeg/5.jpg')}")
    assert trusting.fetch(tls_server.url(f"/redirect?to={there}")).data == jpeg(5)


def test_a_certificate_that_nobody_signed_is_tls_failed(tls_server: ImageServer, fetcher: Fetcher) -> None:
    error = failure(fetcher, tls_server.url("/jpeg/5.jpg"))
    assert error.code is FailureCode.TLS_FAILED
    assert "self-signed" in error.detail or "self signed" in error.detail
    assert not error.retryable
    assert error.again_after is None


def test_a_certificate_for_another_name_is_tls_failed(tls_server: ImageServer, trusting: Fetcher) -> None:
    error = failure(trusting, tls_server.url("/jpeg/5.jpg").replace("localhost", "127.0.0.1"))
    assert error.code is FailureCode.TLS_FAILED
    assert "127.0.0.1" in error.detail


def test_plain_http_where_tls_should_be_is_tls_failed(server: ImageServer, fetcher: Fetcher) -> None:
    error = failure(fetcher, server.url("/a.jpg").replace("http:", "https:"))
    assert error.code is FailureCode.TLS_FAILED


@pytest.mark.parametrize("path", ["/dribble", "/dribble-headers", "/slow"])
def test_the_deadline_holds_inside_tls(path: str, tls_server: ImageServer, trusting: Fetcher) -> None:
    assert failure(trusting, tls_server.url(path)).code is FailureCode.TIMEOUT


def test_a_handshake_that_is_cut_off_is_connect_failed(fetcher: Fetcher) -> None:
    with Scripted(b"") as there:
        error = failure(fetcher, there.url().replace("http:", "https:"))
    assert error.code is FailureCode.CONNECT_FAILED
    assert error.again_after == 0


def test_a_silent_handshake_is_a_timeout(hurried: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects, and nobody answers
        error = failure(hurried, f"https://127.0.0.1:{silent.getsockname()[1]}/")
    assert error.code is FailureCode.TIMEOUT


def test_a_dribbled_handshake_is_a_timeout(hurried: Fetcher) -> None:
    stop = threading.Event()

    def dribble(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\x00")  # a handshake record of 16 KiB begins
            while not stop.wait(0.1):
                connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble, args=(listener,), daemon=True)
        thread.start()
        error = failure(hurried, f"https://127.0.0.1:{listener.getsockname()[1]}/")
        stop.set()
        thread.join()
    assert error.code is FailureCode.TIMEOUT


# What is known already


@pytest.mark.parametrize("by", ["hash", "date"])
def test_what_is_known_comes_without_its_body(by: str, fetcher: Fetcher, server: ImageServer) -> None:
    url = server.url(f"/tagged?of=/a.jpg&by={by}")
    first = fetcher.fetch(url)
    assert (first.data, first.unchanged) == (jpeg(1), False)
    assert [first.etag is None, first.last_modified is None] == [by == "date", by == "hash"]
    again = fetcher.fetch(url, Known(first.place, first.etag, first.last_modified))
    assert again == Fetched(bytearray(), url, first.etag, first.last_modified, unchanged=True)


def test_what_is_no_longer_as_it_was_known_comes_whole(fetcher: Fetcher, server: ImageServer) -> None:
    url = server.url("/tagged?of=/a.jpg")
    fetched = fetcher.fetch(url, Known(place_of(url), etag='"of yesterday"'))
    assert (fetched.data, fetched.unchanged) == (jpeg(1), False)


def test_what_redirects_led_to_is_known_there_and_only_there(fetcher: Fetcher, server: ImageServer) -> None:
    target = server.url("/tagged?of=/a.jpg")
    url = server.url("/redirect?to=/tagged%3Fof=/a.jpg")
    first = fetcher.fetch(url)
    assert first.url == target
    assert fetcher.fetch(url, Known(first.place, first.etag)).unchanged
    moved = server.url("/redirect?to=/tagged%3Fof=/a.jpg%26moved")
    assert not fetcher.fetch(moved, Known(first.place, first.etag)).unchanged


def test_a_hash_counts_for_more_than_a_date(fetcher: Fetcher) -> None:
    with Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx") as there:
        fetcher.fetch(there.url(), Known(place_of(there.url()), '"x"', "Tue, 24 Nov 2026 12:00:00 GMT"))
        head = there.received[0].decode().split("\r\n")
    assert 'If-None-Match: "x"' in head
    assert not any(line.startswith("If-Modified-Since") for line in head)


@pytest.mark.parametrize("known", [None, "elsewhere", "unnamed"])
def test_a_server_that_says_unchanged_unasked_is_an_http_status(known: str | None, fetcher: Fetcher) -> None:
    with Scripted(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n') as there:
        asked = {
            None: None,
            "elsewhere": Known(place_of(there.url("/elsewhere")), '"x"'),
            "unnamed": Known(place_of(there.url())),
        }
        with pytest.raises(ItemError, match="304") as caught:
            fetcher.fetch(there.url(), asked[known])
        assert "If-None-Match" not in there.received[0].decode()
    assert (caught.value.code, caught.value.again_after) == (FailureCode.HTTP_STATUS, None)


@pytest.mark.parametrize("etag", ["", "x" * 257, '"\xfc"', '"a\tb"'])
def test_a_name_that_cannot_be_sent_back_is_not_kept(etag: str, fetcher: Fetcher) -> None:
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: {etag}\r\n\r\nx".encode("latin-1")
    with Scripted(reply) as there:
        assert fetcher.fetch(there.url()).etag is None


def test_the_connection_is_kept_after_an_answer_without_a_body(fetcher: Fetcher) -> None:
    with ImageServer() as server:
        url = server.url("/tagged")
        known = Known(place_of(url), fetcher.fetch(url).etag)
        assert all(fetcher.fetch(url, known).unchanged for _ in range(3))
        assert server.connections == 1


# What stays behind


def test_no_descriptor_is_left_behind() -> None:
    def descriptors() -> int:
        gc.collect()  # urllib3's exceptions refer to the frames that refer to them
        return len(os.listdir("/dev/fd"))

    paths = ["/jpeg/1.jpg", "/missing", "/reset", "/short.jpg", "/huge", "/redirect", "/gzip", "/dribble"]
    before = descriptors()
    with ImageServer() as server, fetching(timeout=0.5) as fetcher, ThreadPoolExecutor(8) as threads:
        for path in paths * 4:
            threads.submit(fetcher.fetch, server.url(path))
    patience = time.monotonic() + 20
    while descriptors() > before and time.monotonic() < patience:
        time.sleep(0.05)
    assert descriptors() <= before


@pytest.mark.parametrize("agent", ["Bildersuche – Müller", "a\nb"])
def test_a_user_agent_that_no_header_can_carry_is_refused_at_the_start(agent: str) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_FETCH_USER_AGENT"):
        Fetcher(Settings(fetch_user_agent=agent, fetch_threads=1))

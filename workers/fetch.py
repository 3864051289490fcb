"""URL → bytes: the one door to the outside network.

requests' adapter does HTTP; what is ours is where a connection may go, how long all of it may take and how much may
come. requests' Session is left out: even when told not to follow a redirect it reads that answer's whole body into
memory, and it would keep cookies and look for proxies.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO
from urllib.parse import urljoin

import certifi
import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from shared.errors import FailureCode, ItemError
from shared.settings import Settings
from workers.addresses import Addresses, is_plain_host
from workers.deadlines import CURRENT, Attempt, Deadlines
from workers.hosts import Hosts, check_header, headers_by_origin, origin_of, seconds_to_wait

MAX_URL_BYTES = 8192
_SHOWN = 200  # characters of a URL in an error's sentence
_READ = 64 * 1024  # bytes of a body that are read at once
_SPARE = 16 * 1024  # bytes of an unwanted body that are read so that its connection can be kept
_WRAPPING = 2**20  # bytes that heads, chunk lines and trailers may add to twice the largest body
_SILENCE_SECONDS = 30.0  # that a download may stand still
_HOSTS = 64  # hosts whose idle connections are kept
_LONGEST_NAME = 256  # characters of an ETag or a date that are kept
_TRY_AGAIN = frozenset({408, 425, 429})

# All that requests, urllib3 and http.client are seen to raise over what a server sends.
_BROKEN = (OSError, HTTPError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Known:
    """What stands of an earlier fetch: the place that its body came from after all redirects, and its server's words.

    With either of them the server can say later that the body is still the same.
    """

    place: str
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True)
class Fetched:
    """A body, the URL that it came from after all redirects, and what its server calls it, where it says so.

    `unchanged`: the body is the one that was known, and `data` is empty.
    """

    data: bytearray
    url: str
    etag: str | None = None
    last_modified: str | None = None
    unchanged: bool = False

    @property
    def place(self) -> str:
        return place_of(self.url)


@dataclass(frozen=True)
class _Sink:
    """Where a body goes, the most that it may be, the setting that says so, and whether its head must tell its end."""

    take: Callable[[bytes], object]
    most_bytes: int
    setting: str
    whole: bool = False


class Fetcher:
    """Fetches from any number of threads; they share its connections, its DNS answers and its TLS context."""

    def __init__(self, settings: Settings) -> None:
        """StartError where the operator's own headers, or the User-Agent, are misspelt."""
        check_header("LOOKALIKE_FETCH_USER_AGENT", "User-Agent", settings.fetch_user_agent)
        self._max_bytes = settings.fetch_max_bytes
        self._max_redirects = settings.fetch_max_redirects
        own = {"User-Agent": settings.fetch_user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._headers = CaseInsensitiveDict(own)
        self._operator_headers = {
            origin: CaseInsensitiveDict([*own.items(), *headers.items()])
            for origin, headers in headers_by_origin(settings.fetch_headers).items()
        }
        self._addresses = Addresses(settings.fetch_allow, settings.fetch_threads)
        self._adapter = _Adapter(settings.fetch_threads)
        self._deadlines = Deadlines(settings.fetch_timeout)
        self._hosts = Hosts(settings.fetch_per_host)

    def fetch(self, url: str, known: Known | None = None) -> Fetched:
        """The bytes behind `url`, at most `fetch_max_bytes`, within `fetch_timeout`; none where they are `known`.

        A short wait for the host's turn (`workers.hosts`) comes on top. Raises ItemError and nothing else, with
        `again_after` where the fault may pass. Whether the bytes are a picture is not judged here.
        """
        data = bytearray()
        sink = _Sink(data.extend, self._max_bytes, "LOOKALIKE_FETCH_MAX_BYTES")
        with self._deadlines.attempt(self._addresses) as attempt:
            return replace(self._bring(url, known, sink, attempt), data=data)

    def download(
        self, url: str, file: BinaryIO, *, most_bytes: int, seconds: float, whole: bool = False
    ) -> None:
        """Write the bytes behind `url` to `file`, at most `most_bytes`, within `seconds`. The errors of `fetch`.

        `whole`: refuse them where the end of the connection is theirs, for so it would be had they broken off.
        What `file.write` raises ends it. After an error part of the bytes may stand in the file.
        """
        setting = "LOOKALIKE_FEED_MAX_BYTES, less the job's feeds before it"
        sink = _Sink(file.write, most_bytes, setting, whole)
        with self._deadlines.attempt(self._addresses, seconds=seconds, silence=_SILENCE_SECONDS) as attempt:
            self._bring(url, None, sink, attempt)

    def close(self) -> None:
        self._deadlines.stop()
        self._adapter.close()
        self._addresses.close()

    def _bring(self, url: str, known: Known | None, sink: _Sink, attempt: Attempt) -> Fetched:
        """Fill the sink; what is returned has no data itself."""
        outer = sys.exception()
        attempt.bytes_left = 2 * sink.most_bytes + _WRAPPING
        try:
            return self._follow(url, known, sink, attempt)
        except _BROKEN as error:
            raise _explained(list(_links(error, outer)), attempt) from error

    def _follow(self, url: str, known: Known | None, sink: _Sink, attempt: Attempt) -> Fetched:
        hop = url
        for _ in range(self._max_redirects + 1):
            target = _parse(hop)
            answer = self._take(target, _known_of(target, known), sink, attempt)
            if isinstance(answer, Fetched):
                return answer
            hop = answer
        raise ItemError(
            FailureCode.TOO_MANY_REDIRECTS,
            f"`{_shown(url)}` was redirected more than {self._max_redirects} times.",
        )

    def _take(self, target: Url, known: Known | None, sink: _Sink, attempt: Attempt) -> Fetched | str:
        """The body behind one URL, or the URL that it redirects to."""
        attempt.url = _shown(target.url)
        assert target.scheme is not None
        assert target.host is not None
        origin = origin_of(target.scheme, target.host, target.port)
        with attempt.standing_still():
            turn = self._hosts.turn(origin, attempt.url)
        with turn:
            headers = self._operator_headers.get(origin, self._headers)
            response = self._send(target.url, _asking(headers, known), attempt)
            try:
                turn.answered(response.status_code, seconds_to_wait(response.headers.get("Retry-After")))
                if response.is_redirect:
                    return _redirected(target.url, response.headers["Location"])
                if known and response.status_code == 304:
                    return Fetched(bytearray(), target.url, known.etag, known.last_modified, unchanged=True)
                names = (_name(response, "ETag"), _name(response, "Last-Modified"))
                _read_body(response, sink, attempt)
                return Fetched(bytearray(), target.url, *names)
            finally:
                _leave(response)

    def _send(self, url: str, headers: CaseInsensitiveDict[str], attempt: Attempt) -> requests.Response:
        request = requests.PreparedRequest()
        request.method, request.url, request.headers = "GET", url, headers
        while True:
            attempt.reused = False
            try:
                return self._adapter.send(request, stream=True, timeout=attempt.patience())
            except _BROKEN:
                # A server may drop a kept connection just as it is used again: no fault of this URL.
                if attempt.over or not attempt.reused:
                    raise


def _read_body(response: requests.Response, sink: _Sink, attempt: Attempt) -> None:
    _check_head(response, sink, attempt.url)
    size = 0
    while piece := response.raw.read1(_READ, decode_content=False):
        size += len(piece)
        if size > sink.most_bytes:
            raise _too_large(attempt.url, f"more than {sink.most_bytes:,}", sink)
        sink.take(piece)
    attempt.remaining()  # a body without a length looks complete when the deadline cuts it
    if not size:
        raise ItemError(FailureCode.EMPTY, f"`{attempt.url}` answered with no bytes.")


def _check_head(response: requests.Response, sink: _Sink, url: str) -> None:
    status = response.status_code
    if status != 200:
        may_pass = status in _TRY_AGAIN or status >= 500
        raise ItemError(
            FailureCode.HTTP_STATUS,
            f"`{url}` answered with status {status}.",
            again_after=seconds_to_wait(response.headers.get("Retry-After")) if may_pass else None,
        )
    for header, plain in ("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked"):
        encoding = response.headers.get(header, plain)
        if encoding.strip().lower() != plain:
            raise ItemError(
                FailureCode.CONTENT_ENCODING,
                f"`{url}` sent its body encoded ({header}: {_shown(encoding)}) though it was asked not to.",
            )
    declared = response.raw.length_remaining
    if declared is not None and declared > sink.most_bytes:
        raise _too_large(url, f"{declared:,}", sink)
    if sink.whole and declared is None and not response.raw.chunked:
        raise ItemError(
            FailureCode.TRUNCATED,
            f"`{url}` comes without a length, so nobody could tell whether all of it came, and what a feed lacks is "
            "removed where it is synchronised. Have its server send Content-Length, or upload the file.",
            retryable=False,
        )


def _too_large(url: str, size: str, sink: _Sink) -> ItemError:
    return ItemError(
        FailureCode.TOO_LARGE, f"`{url}` is {size} bytes; the most is {sink.most_bytes:,} ({sink.setting})."
    )


def _parse(url: str) -> Url:
    """The URL as it is sent: host in ASCII, path quoted, no fragment. ItemError: bad_url."""
    url = url.strip()
    if len(url.encode("utf-8", "surrogatepass")) > MAX_URL_BYTES:
        raise ItemError(FailureCode.BAD_URL, f"`{_shown(url)}` is longer than {MAX_URL_BYTES} bytes.")
    try:
        target = parse_url(url)
    except ValueError as error:
        raise ItemError(FailureCode.BAD_URL, f"`{_shown(url)}` is not a URL.") from error
    if target.scheme not in ("http", "https"):
        raise ItemError(FailureCode.BAD_URL, f"`{_shown(url)}` does not begin with http:// or https://.")
    if target.auth is not None:
        raise ItemError(FailureCode.BAD_URL, f"`{target.host}`: a URL with a user name is not fetched.")
    if not target.host or not is_plain_host(target.host):
        raise ItemError(
            FailureCode.BAD_URL, f"`{_shown(url)}` has no plainly spelled host name or IP address."
        )
    return target._replace(fragment=None)


def _known_of(target: Url, known: Known | None) -> Known | None:
    """What can be asked of this URL. Of any other that stands in its place by now the answer might be wrong."""
    asks = known and (known.etag or known.last_modified) and known.place == place_of(target.url)
    return known if asks else None


def place_of(url: str) -> str:
    """A short name of a URL as it is sent: one that a redirect led to may be long, or hold a secret."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _asking(headers: CaseInsensitiveDict[str], known: Known | None) -> CaseInsensitiveDict[str]:
    """The headers, and the question whether the body is still the one that is known."""
    if known is None:
        return headers
    # Not both: a date can match where the ETag does not, and not every server knows which of them counts.
    question = (
        ("If-None-Match", known.etag) if known.etag else ("If-Modified-Since", known.last_modified or "")
    )
    return CaseInsensitiveDict([*headers.items(), question])


def _name(response: requests.Response, header: str) -> str | None:
    """What the server calls its body, if that can be sent back to it."""
    name = response.headers.get(header, "").strip()
    return name if 0 < len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable() else None


def _redirected(url: str, location: str) -> str:
    location = location.encode("latin-1").decode("utf-8", "replace")  # UTF-8 that http.client read as Latin-1
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise ItemError(
            FailureCode.BAD_URL, f"`{_shown(url)}` redirects to `{_shown(location)}`, which is not a URL."
        ) from error


def _shown(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _leave(response: requests.Response) -> None:
    """Give the connection back; what is unread of a body costs it unless that is little."""
    length = response.raw.length_remaining
    if length is not None and length <= _SPARE and not response.raw.isclosed():
        with contextlib.suppress(*_BROKEN):
            response.raw.read(_SPARE, decode_content=False)
    response.close()


def _links(error: BaseException | None, outer: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, back to what the caller itself was handling."""
    while error is not None and error is not outer:
        yield error
        error = error.__context__


def _explained(chain: list[BaseException], attempt: Attempt) -> ItemError:
    cause = chain[-1]
    if attempt.over or isinstance(cause, TimeoutError):
        return attempt.too_late()
    reason = _shown(str(cause) or type(cause).__name__)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return ItemError(FailureCode.TLS_FAILED, f"`{attempt.url}`: TLS failed ({reason}).")
    if any(isinstance(link, http.client.IncompleteRead) for link in chain):
        return ItemError(
            FailureCode.TRUNCATED, f"`{attempt.url}` ended before its body was complete.", again_after=0
        )
    return ItemError(
        FailureCode.CONNECT_FAILED, f"`{attempt.url}`: the connection failed ({reason}).", again_after=0
    )


class _Metered(io.RawIOBase):
    """What a connection brings, counted as it comes: heads, chunk lines and trailers too, which no body cap sees."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        attempt = CURRENT.get()
        attempt.bytes_left -= count or 0
        if attempt.bytes_left < 0:
            raise ItemError(
                FailureCode.TOO_LARGE,
                f"`{attempt.url}` sent more than twice the largest body (LOOKALIKE_FETCH_MAX_BYTES), most of it "
                "no body: headers, chunk lines or redirects.",
            )
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(_Metered(self.fp.detach()))


class _Connection(HTTPConnection):
    """Opens no socket itself: the thread's own fetch does, to an address that was checked."""

    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        return CURRENT.get().connect(self.host, self.port)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            CURRENT.get().reused = True
            CURRENT.get().watch(self.sock)
        super().request(*args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    """requests' adapter over our connections; one TLS context and one set of idle connections for all threads."""

    def __init__(self, connections_per_host: int) -> None:
        self._tls = ssl.create_default_context()
        self._tls.load_verify_locations(certifi.where())
        super().__init__(pool_connections=_HOSTS, pool_maxsize=connections_per_host)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._tls, **pool)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the context verifies, and requests would load the certificates anew for each connection."""

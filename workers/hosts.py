"""What a worker keeps to with each host: how many fetches at once, how fast, with which headers of the operator."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from shared.errors import FailureCode, ItemError, StartError
from workers.addresses import is_plain_host

WAIT_SECONDS = 2.0  # longest that a fetch stands in line: it holds a thread that other hosts could use
PAUSE_SECONDS = 120.0  # longest that a host's Retry-After is kept for its other URLs
KEPT_HOSTS = 4096
_FIRST_INTERVAL, _LONGEST_INTERVAL, _LEAST_INTERVAL = 0.5, 30.0, 0.05  # seconds
_REFUSALS = frozenset({429, 503})
_CLOSED_AFTER = 8  # refusals in a row: else a host that only refuses would keep its items waiting for ever
_PORTS = {"http": 80, "https": 443}

_SECONDS = re.compile(r"[0-9]{1,9}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OWN_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})


class NoTurn(ItemError):
    """The host was busy with this worker's other fetches: nothing was asked of it, so this is no try of the item."""


@dataclass
class _Host:
    """One host's fetches: those under way, those in line, and the pace that it bears.

    The pace is exponential backoff: each refusal (429, 503) doubles the interval between two starts, from half a
    second to half a minute, and each other answer makes it a fifth shorter until it is gone. A Retry-After closes
    the host for that long.
    """

    active: int = 0
    line: deque[threading.Event] = field(default_factory=deque)
    interval: float = 0.0
    opens_at: float = 0.0
    refused_at: float = 0.0
    refusals: int = 0  # in a row
    status: int = 0

    def admit(self, most: int, now: float) -> None:
        while self.line and self.active < most and now >= self.opens_at:
            self.line.popleft().set()
            self.active += 1
            self.opens_at = now + self.interval

    def refuse(self, status: int, retry_after: float, now: float) -> None:
        self.interval = min(max(2 * self.interval, _FIRST_INTERVAL), _LONGEST_INTERVAL)
        self.opens_at = max(self.opens_at, now + (min(retry_after, PAUSE_SECONDS) or self.interval))
        self.refused_at = now
        self.refusals += 1
        self.status = status

    def relax(self) -> None:
        self.refusals = 0
        self.interval *= 0.8
        if self.interval < _LEAST_INTERVAL:
            self.interval = 0.0

    def is_idle(self) -> bool:
        return not self.active and not self.line

    def is_unknown(self, now: float) -> bool:
        """Whether nothing would be lost if the host were forgotten."""
        return self.is_idle() and not self.interval and now >= self.opens_at


class Turn:
    """Leave to fetch from one host, until the `with` that holds it ends."""

    def __init__(self, hosts: Hosts, origin: str) -> None:
        self._hosts = hosts
        self._origin = origin
        self._started = time.monotonic()

    def answered(self, status: int, retry_after: float) -> None:
        """What the host said; `retry_after` is in seconds, 0 where it did not say."""
        self._hosts.learn(self._origin, self._started, status, retry_after)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *_: object) -> None:
        self._hosts.leave(self._origin)


class Hosts:
    """The hosts in use and those that asked to be spared; any number of threads take turns here, first come first."""

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def turn(self, origin: str, url: str) -> Turn:
        """Wait for a turn, `WAIT_SECONDS` at most; `url` is for the error's sentence.

        NoTurn where others took all turns (`timeout`), or the host refused and is left alone for longer
        (`http_status`); a plain ItemError where it refused so often in a row that it has answered for this URL too.
        All carry `again_after`.
        """
        called = threading.Event()
        with self._lock:
            host = self._hosts.get(origin) or self._meet(origin)
            host.line.append(called)
            host.admit(self._per_host, time.monotonic())
        if not called.is_set():
            self._wait(host, called, url)
        return Turn(self, origin)

    def learn(self, origin: str, started: float, status: int, retry_after: float) -> None:
        """Mind an answer to a fetch that `started` then. Those under way at a refusal say nothing new after it."""
        now = time.monotonic()
        with self._lock:
            host = self._hosts[origin]
            if started < host.refused_at:
                return
            if status in _REFUSALS:
                host.refuse(status, retry_after, now)
            else:
                host.relax()

    def leave(self, origin: str) -> None:
        now = time.monotonic()
        with self._lock:
            host = self._hosts[origin]
            host.active -= 1
            host.admit(self._per_host, now)
            if host.is_unknown(now):
                del self._hosts[origin]

    def _meet(self, origin: str) -> _Host:
        if len(self._hosts) >= KEPT_HOSTS:
            self._hosts = {name: host for name, host in self._hosts.items() if not host.is_idle()}
        return self._hosts.setdefault(origin, _Host())

    def _wait(self, host: _Host, called: threading.Event, url: str) -> None:
        now = time.monotonic()
        ends = now + WAIT_SECONDS
        while now < ends and host.opens_at - now <= WAIT_SECONDS:
            opens_in = host.opens_at - now
            if called.wait(min(opens_in, ends - now) if opens_in > 0 else ends - now):
                return
            now = time.monotonic()
            with self._lock:
                host.admit(self._per_host, now)
        with self._lock:
            if not called.is_set():
                host.line.remove(called)
                raise self._missed(host, host.opens_at - now, url)

    def _missed(self, host: _Host, opens_in: float, url: str) -> ItemError:
        if opens_in <= WAIT_SECONDS:
            detail = (
                f"`{url}` was not asked for: other fetches from its host took longer than {WAIT_SECONDS:g} s "
                f"({self._per_host} at once, LOOKALIKE_FETCH_PER_HOST)."
            )
            return NoTurn(FailureCode.TIMEOUT, detail, again_after=max(opens_in, 0.0))
        detail = (
            f"`{url}` was not asked for: its host answered with status {host.status} and is left alone for "
            f"another {opens_in:.0f} s."
        )
        kind = ItemError if host.refusals >= _CLOSED_AFTER else NoTurn
        return kind(FailureCode.HTTP_STATUS, detail, again_after=opens_in)


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """One spelling for each origin: the port always stands there. `scheme` and `host` are lower-case."""
    return f"{scheme}://{host}:{port or _PORTS[scheme]}"


def seconds_to_wait(retry_after: str | None) -> float:
    """A Retry-After header, seconds or a date, as seconds from now; 0 where it is missing, past or makes no sense."""
    text = (retry_after or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def headers_by_origin(configured: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """LOOKALIKE_FETCH_HEADERS by `origin_of`. StartError where an origin or a header is misspelt.

    No sentence of it holds a header's value: those are secrets.
    """
    headers: dict[str, dict[str, str]] = {}
    for text, fields in configured.items():
        for name, value in fields.items():
            where = f"LOOKALIKE_FETCH_HEADERS, `{text.rpartition('@')[2]}`"
            check_header(where, name, value)
            if name.lower() in _OWN_HEADERS:
                raise StartError(f"{where}: `{name}` is set by the fetch itself; leave it out.")
        headers.setdefault(_configured_origin(text), {}).update(fields)
    return headers


def _configured_origin(text: str) -> str:
    try:
        parts = urlsplit(text.lower())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _misspelt(text) from None
    host = f"[{host}]" if ":" in host else host
    is_bare = f"{parts.scheme}://{parts.netloc}" == text.lower() and "@" not in parts.netloc
    if parts.scheme not in _PORTS or not is_bare or not is_plain_host(host):
        raise _misspelt(text)
    return origin_of(parts.scheme, host, port)


def _misspelt(text: str) -> StartError:
    return StartError(
        f"LOOKALIKE_FETCH_HEADERS: `{text.rpartition('@')[2]}` is not an origin. Write scheme and host, and a port "
        "that is not the usual one, as in `https://cdn.shop.example`: no path, no user name."
    )


def check_header(where: str, name: str, value: str) -> None:
    """StartError where a name or a value cannot be a header's; `where` it stands begins the sentence."""
    if not _HEADER_NAME.fullmatch(name):
        raise StartError(f"{where}: a header's name holds what no name may hold, such as a space or a colon.")
    if not _HEADER_VALUE.fullmatch(value):
        raise StartError(
            f"{where}: the value of `{name}` has a line break or a character that no header may hold."
        )

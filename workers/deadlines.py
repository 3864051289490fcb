"""How long one fetch may take in all, and the thread that ends what takes longer."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

from shared.errors import FailureCode, ItemError
from workers.addresses import Addresses, Endpoint

TICK = 0.2  # seconds between two looks at the deadlines


class Attempt:
    """One fetch: the time and the bytes that are left for it, and the socket that is shut when no time is.

    `silence` is the longest that one answer of the network may take, in seconds.
    """

    def __init__(self, addresses: Addresses, seconds: float, silence: float) -> None:
        self.url = ""
        self.silence = silence
        self.bytes_left = 0
        self.reused = False
        self.over = False
        self._addresses = addresses
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def remaining(self) -> float:
        """Seconds left, more than 0. ItemError: timeout."""
        seconds = self._ends - time.monotonic()
        if self.over or seconds <= 0:
            raise self.too_late()
        return seconds

    def patience(self) -> float:
        """How long the network may take for one answer: `remaining`, and no longer than `silence`."""
        return min(self.remaining(), self.silence)

    def too_late(self) -> ItemError:
        if self.silence < math.inf:
            why = f"did not arrive within {self._seconds:g} s, or nothing came for {self.silence:g} s"
        else:
            why = f"did not arrive within {self._seconds:g} s (LOOKALIKE_FETCH_TIMEOUT)"
        return ItemError(FailureCode.TIMEOUT, f"`{self.url}` {why}.", again_after=0)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Time that is not the host's own, and so does not count."""
        left = self.remaining()
        self._ends = math.inf
        try:
            yield
        finally:
            self._ends = time.monotonic() + left

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to one of the host's addresses, each of which was checked; they share the time left."""
        self.reused = False
        endpoints = self._addresses.resolve(host, port, seconds=self.remaining(), url=self.url)
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            try:
                return self._open(endpoint, self.remaining() / left)
            except OSError:
                if left == 1:
                    raise
        raise OSError("the name has no address")

    def _open(self, endpoint: Endpoint, seconds: float) -> socket.socket:
        sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            sock.connect(endpoint.sockaddr)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self.patience())
            self.watch(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def watch(self, sock: socket.socket) -> None:
        """Let the deadline shut this connection. A duplicate of the descriptor is kept, because TLS takes the
        original away and a closed one's number may soon belong to somebody else."""
        duplicate = socket.fromfd(sock.fileno(), sock.family, sock.type)
        with self._lock:
            self._forget()
            self._socket = duplicate
        if self.over:
            self.cut()

    def expire(self, now: float) -> None:
        if now >= self._ends:
            self.cut()

    def cut(self) -> None:
        with self._lock:
            self.over = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the other side may have closed it already
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


CURRENT: ContextVar[Attempt] = ContextVar("attempt")


class Deadlines:
    """The thread that ends what outlives its time. Socket timeouts cannot: each byte starts them anew."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._attempts: set[Attempt] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="fetch-deadlines", daemon=True).start()

    @contextlib.contextmanager
    def attempt(
        self, addresses: Addresses, *, seconds: float | None = None, silence: float = math.inf
    ) -> Iterator[Attempt]:
        """By default `seconds` are those of every fetch."""
        attempt = Attempt(addresses, self._seconds if seconds is None else seconds, silence)
        before = CURRENT.set(attempt)
        with self._lock:
            self._attempts.add(attempt)
        try:
            yield attempt
        finally:
            with self._lock:
                self._attempts.discard(attempt)
            CURRENT.reset(before)
            attempt.close()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(TICK):
            with self._lock:
                attempts = list(self._attempts)
            now = time.monotonic()
            for attempt in attempts:
                attempt.expire(now)

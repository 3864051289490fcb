"""A client's connection that knows how long its client may take."""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from api import limits
from shared.errors import RequestCode, RequestError

_HEAD_END = re.compile(rb"\n\r?\n")
_PIECE = 64 * 1024


class Connection(socket.socket):
    """A socket whose every wait for the client lets another thread work, and is counted.

    In each request, each direction has `seconds` to spend in waiting; every `limits.LEAST_RATE` bytes that move
    earn one back, up to `seconds`. So a client may pause for so long, and must not be slower than that rate for
    longer. What a request costs this side in time is not the client's.
    """

    def __init__(self, accepted: socket.socket, seconds: float, places: threading.Semaphore) -> None:
        """`places` is how many threads may work at once; a thread that reads or writes here holds one of them."""
        super().__init__(fileno=accepted.detach())
        self.head = bytearray()
        self.until: float | None = None  # while it waits for its client: the moment that it gives up
        self._seconds = seconds
        self._places = places
        self.renew()

    def renew(self) -> None:
        """A request begins: its client has all the time again, however long the ones before it took."""
        self._reading, self._writing = _Patience(self._seconds), _Patience(self._seconds)
        self._spent = self._reading  # the one of the last wait

    def read_head(self) -> bool:
        """Take what has come, without waiting; True once a whole head is here. OSError when the client is gone."""
        if not _HEAD_END.search(self.head):
            with suppress(BlockingIOError):
                data = super().recv(_PIECE)
                if not data:
                    raise ConnectionResetError(errno.ECONNRESET, "the client went away")
                self.head += data
        return _HEAD_END.search(self.head) is not None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As a socket's, after what was read of the head. RequestError(REQUEST_TIMEOUT) for a client too slow."""
        if self.head:
            data, self.head = bytes(self.head), bytearray()
            return data
        bounded = self.gettimeout() is not None
        try:
            with self._waiting(self._reading):
                data = super().recv(size, flags)
        except TimeoutError as error:
            if bounded:
                raise
            raise too_slow(self._seconds) from error
        self._reading.earn(len(data))
        return data

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As a socket's. BrokenPipeError for a client that does not read.

        Systems tell of what was read in steps, as large as a good part of their buffers, and a step must come within
        the patience. So in truth a reader needs more than `limits.LEAST_RATE`: with 20 s of it and a client whose
        buffers grow as usual about 8 KB a second, with small ones 2.5 (both measured on loopback).
        """
        try:
            with self._waiting(self._writing):
                sent = super().send(data, flags)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the client does not read its answer") from error
        self._writing.earn(sent)
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a socket's, with the patience of `send`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest, flags) :]

    def give_up(self) -> None:
        """From another thread: the time of what it waits for is over."""
        patience = self._spent
        patience.left = 0
        with suppress(OSError):  # wakes its thread; a reader's may still answer
            self.shutdown(socket.SHUT_RD if patience is self._reading else socket.SHUT_RDWR)

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """While its thread waits for something else than the client: another one works meanwhile."""
        self._places.release()
        try:
            yield
        finally:
            self._places.acquire()

    @contextmanager
    def _waiting(self, patience: _Patience) -> Iterator[None]:
        """A bound that the caller set itself, as a time-out of the socket, counts in place of the patience."""
        bound = self.gettimeout()
        if bound == 0:  # the server's loop, which never waits
            yield
            return
        limit = patience.left if bound is None else bound
        if limit <= 0:
            raise TimeoutError
        began = time.monotonic()
        self.settimeout(limit)
        self._spent, self.until = patience, began + limit
        self._places.release()
        try:
            yield
            if bound is None and patience.left <= 0:  # given up meanwhile
                raise TimeoutError
        finally:
            self.until = None
            patience.left -= time.monotonic() - began
            self._places.acquire()
            self.settimeout(bound)


class _Patience:
    """Seconds left to wait for one direction of a connection."""

    def __init__(self, seconds: float) -> None:
        self.left = self._most = seconds

    def earn(self, moved: int) -> None:
        self.left = min(self._most, self.left + moved / limits.LEAST_RATE)


def too_slow(seconds: float) -> RequestError:
    """The refusal of a request that takes its time."""
    return RequestError(
        RequestCode.REQUEST_TIMEOUT,
        f"The request did not arrive in time: its head may take {seconds:g} s, and its body may pause for "
        f"{seconds:g} s and must come at {limits.LEAST_RATE:,} bytes a second or more. Send it again.",
    )

"""How a worker reaches the store process: the whole index, forwarded over its unix socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import numpy as np

from shared.contract import ModelCard
from shared.errors import IndexUnavailable
from workers.index.interface import Collection, FieldType, Filter, Point, ScoredPoint

_PATIENCE = 10.0  # seconds for a store that restarts, and for one that stalls in the middle of a message
_ANSWER = 60.0  # seconds for one answer
_PAUSE = 0.1


def key_file(socket: Path) -> Path:
    """Where the store leaves the key that its callers must know."""
    return socket.with_name(socket.name + ".key")


class StoreClient:
    """The embedded index, from another process. Threads may share it, and it may be carried over a fork.

    Every method may be sent twice when the store dies before it answers; each is safe to repeat,
    though a repeated `drop` finds nothing and a repeated `create` finds it made.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._mine = threading.local()

    def collections(self) -> list[Collection]:
        return self._call("collections")

    def find(self, name: str) -> Collection | None:
        return self._call("find", name)

    def versions(self, name: str) -> list[Collection]:
        return self._call("versions", name)

    def create(self, name: str, card: ModelCard) -> bool:
        return self._call("create", name, card)

    def go_live(self, name: str, version: int) -> None:
        self._call("go_live", name, version)

    def drop(self, name: str) -> None:
        self._call("drop", name)

    def ensure_indexes(self, name: str, fields: Mapping[str, FieldType]) -> None:
        self._call("ensure_indexes", name, dict(fields))

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        self._call("upsert", name, list(points))

    def set_payloads(self, name: str, payloads: Mapping[str, dict[str, Any]]) -> None:
        self._call("set_payloads", name, dict(payloads))

    def retrieve(self, name: str, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Point]:
        return self._call("retrieve", name, list(ids), vectors=vectors)

    def query(
        self,
        name: str,
        vector: np.ndarray,
        *,
        filter: Filter | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        exact: bool = False,
    ) -> list[ScoredPoint]:
        return self._call(
            "query",
            name,
            vector,
            filter=filter,
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            exact=exact,
        )

    def scroll(
        self,
        name: str,
        *,
        filter: Filter | None = None,
        limit: int = 100,
        cursor: str | None = None,
        vectors: bool = False,
    ) -> tuple[list[Point], str | None]:
        return self._call("scroll", name, filter=filter, limit=limit, cursor=cursor, vectors=vectors)

    def count(self, name: str, *, filter: Filter | None = None) -> int:
        return self._call("count", name, filter=filter)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        self._call("delete", name, list(ids))

    def facet(
        self, name: str, key: str, *, filter: Filter | None = None, limit: int = 20
    ) -> list[tuple[Any, int]]:
        return self._call("facet", name, key, filter=filter, limit=limit)

    def index_values(self, name: str, key: str) -> bool:
        return self._call("index_values", name, key)

    def ping(self) -> None:
        """Asks once, over a new connection, and does not wait for a store that is away."""
        self._hang_up()
        try:
            self._ask("ping", (), {})
        except (OSError, EOFError, AuthenticationError) as error:
            raise self._away(error) from error

    def close(self) -> None:
        self._mine = threading.local()

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._ask(method, args, options)
            except (OSError, EOFError, AuthenticationError) as error:
                self._hang_up()
                if time.monotonic() > deadline:
                    raise self._away(error) from error
            time.sleep(_PAUSE)

    def _ask(self, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        connection = self._connection()
        connection.send((method, args, options))
        if not connection.poll(_ANSWER):
            raise TimeoutError(f"no answer to `{method}` within {_ANSWER:.0f} s")
        done, answer = connection.recv()
        if done:
            return answer
        raise answer

    def _connection(self) -> Connection:
        """This thread's own, made anew in a process that was forked."""
        if getattr(self._mine, "process", None) != os.getpid():
            self._mine.connection = _connect(self._socket)
            self._mine.process = os.getpid()
        return self._mine.connection

    def _hang_up(self) -> None:
        self._mine.__dict__.clear()

    def _away(self, error: Exception) -> IndexUnavailable:
        return IndexUnavailable(
            f"The embedded store at {self._socket} does not answer ({error or type(error).__name__}); "
            "`lookalike up` starts it."
        )


def _connect(path: Path) -> Connection:
    """A connection that both sides know the key of. A store that is stopped keeps nobody waiting for ever."""
    patience = struct.pack(
        "ll", int(_PATIENCE), int(_PATIENCE % 1 * 1e6)
    )  # the kernel's, for `Connection` has none of its own
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(True)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            caller.setsockopt(socket.SOL_SOCKET, option, patience)
        caller.connect(str(path))
        connection = Connection(caller.detach())
    key = key_file(path).read_bytes()
    answer_challenge(connection, key)
    deliver_challenge(connection, key)
    return connection

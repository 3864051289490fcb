"""The process that owns the embedded index and serves this machine's workers over a unix socket.

`python -m workers.index.store --socket PATH --folder PATH`. It is ready when the socket accepts, flushes
every few seconds, and at SIGTERM or SIGINT flushes once more and ends with 0.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from shared.errors import IndexUnavailable, LookalikeError, StartError
from shared.settings import Settings
from shared.telemetry import log_to_stderr
from workers.index.edge import EdgeIndex
from workers.index.store_client import key_file

_FLUSH_SECONDS = 5.0

logger = logging.getLogger(__name__)


def serve(socket: Path, folder: Path) -> None:
    """Serve until a signal asks to stop. StartError where the folder or the socket cannot be had."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    index = EdgeIndex(folder)
    listener, key = _listen(socket)
    with listener:
        threading.Thread(target=_accept, args=(listener, key, index, stop), daemon=True).start()
        while not stop.wait(_FLUSH_SECONDS):
            _flush(index)
    index.close()


def _flush(index: EdgeIndex) -> None:
    try:
        index.flush()
    except IndexUnavailable as error:
        logger.error("The flush failed, the next one comes: %s", error)


def _listen(socket: Path) -> tuple[Listener, bytes]:
    """Only this user may call, and only who can read the key is heard. The folder's owner owns the socket."""
    os.umask(0o077)
    key = secrets.token_bytes(32)
    try:
        socket.parent.mkdir(parents=True, exist_ok=True)
        key_file(socket).unlink(missing_ok=True)
        key_file(socket).write_bytes(key)
        socket.unlink(missing_ok=True)
        return Listener(str(socket), "AF_UNIX", backlog=128), key
    except OSError as error:
        raise StartError(f"The store cannot listen on {socket}: {error}.") from error


def _accept(listener: Listener, key: bytes, index: EdgeIndex, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            connection = listener.accept()
        except OSError:
            stop.wait(0.05)  # a caller that went away
            continue
        threading.Thread(target=_converse, args=(connection, key, index), daemon=True).start()


def _converse(connection: Connection, key: bytes, index: EdgeIndex) -> None:
    """Hear one caller to its end. A caller may hold the key of the store before this one: it is not heard."""
    with connection, suppress(OSError, EOFError, AuthenticationError):
        deliver_challenge(
            connection, key
        )  # here and not in `accept`, where a silent caller would keep all others out
        answer_challenge(connection, key)
        while True:
            connection.send(_answer(index, *connection.recv()))


def _answer(
    index: EdgeIndex, method: str, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[bool, Any]:
    """`(True, result)`, or `(False, exception)` to be raised where the call was made."""
    try:
        return True, getattr(index, method)(*args, **options)
    except Exception as error:
        if not isinstance(error, LookalikeError | ValueError):
            logger.exception("`%s` failed", method)
        return False, error
    except BaseException as error:  # a panic inside the engine
        logger.exception("`%s` failed", method)
        return False, IndexUnavailable(f"The embedded store failed: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workers.index.store", description="Lookalike's embedded store."
    )
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to serve on")
    parser.add_argument("--folder", type=Path, required=True, help="folder that holds the collections")
    arguments = parser.parse_args()
    log_to_stderr(Settings().log_level)
    try:
        serve(arguments.socket, arguments.folder)
    except StartError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

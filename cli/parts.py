"""The parts of one machine: each one's command line, what tells that it is ready, and their environment."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from cli import broker
from cli.address import bracketed, local_url
from shared.settings import Settings

OFFLINE_MODEL = "efficientnet-lite2"
_WAIT_SECONDS = 60.0
_DOWNLOAD_SECONDS = 900.0


@dataclass(frozen=True)
class Part:
    """One process. `missing` says what the one of this pid still lacks, None when it is ready."""

    name: str
    command: tuple[str, ...]
    missing: Callable[[int], str | None]
    leads: bool = False  # the parts after it start only when it is ready
    patience: float = _WAIT_SECONDS


def all_parts(settings: Settings, sockets: Path) -> list[Part]:
    """What `up` starts, in order. `settings` carry the host, the port and the data folder that were chosen.

    Raises Refused where there is no broker to start, or where REDIS_URL's does not answer.
    """
    parts = []
    if _broker_is_given(settings):
        broker.check_given(settings.redis_url)
    else:
        parts.append(_broker(_broker_socket(sockets), settings.data / "broker"))
    if settings.qdrant_url is None:
        parts.append(_store(_store_socket(sockets), settings.data / "index"))
    return [*parts, _worker("ingest", settings), _worker("search", settings), _api(settings)]


def environment(settings: Settings, sockets: Path) -> dict[str, str]:
    """What every part finds in its environment, beside what `up` itself was given."""
    ours = {
        "LOOKALIKE_DATA": str(settings.data),
        "LOOKALIKE_HOST": settings.host,
        "LOOKALIKE_PORT": str(settings.port),
        "LOOKALIKE_MODEL": _model(settings),
        "LOOKALIKE_MODELS": ",".join(_absolute(model) for model in settings.models),
        "LOOKALIKE_FILES": _files(settings),
        "LOOKALIKE_THUMBNAILS": str(_thumbnails(settings)).lower(),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if not _broker_is_given(settings):
        ours["REDIS_URL"] = f"unix://{_broker_socket(sockets)}?db=0"
    if settings.qdrant_url is None:
        ours["LOOKALIKE_STORE_SOCKET"] = str(_store_socket(sockets))
    return {**os.environ, **ours}


def _broker_is_given(settings: Settings) -> bool:
    return "redis_url" in settings.model_fields_set and bool(settings.redis_url)


def _broker_socket(sockets: Path) -> Path:
    return sockets / "broker.sock"


def _store_socket(sockets: Path) -> Path:
    return sockets / "store.sock"


def _model(settings: Settings) -> str:
    if "model" not in settings.model_fields_set or not settings.model:
        return OFFLINE_MODEL
    return _absolute(settings.model)


def _absolute(model: str) -> str:
    """A folder's whole path: the parts stand in another folder."""
    folder = Path(model)
    return str(folder.absolute()) if folder.is_dir() else model


def _files(settings: Settings) -> str:
    if not settings.files or "://" in settings.files:
        return settings.files or str(settings.data / "files")
    return str(Path(settings.files).absolute())  # the parts stand in another folder


def _thumbnails(settings: Settings) -> bool:
    """Kept unless it is said otherwise."""
    return settings.thumbnails or "thumbnails" not in settings.model_fields_set


def _broker(path: Path, folder: Path) -> Part:
    folder.mkdir(exist_ok=True)
    # fmt: off
    command = (
        *broker.server(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
        "--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
        "--maxmemory-policy", "noeviction",
    )
    # fmt: on
    return Part("broker", command, lambda pid: broker.missing(path), leads=True)


def _store(path: Path, folder: Path) -> Part:
    command = _python("workers.index.store", "--socket", str(path), "--folder", str(folder))
    return Part("store", command, lambda pid: _connection_missing(path), leads=True)


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
    return Part(f"{queue}-worker", command, lambda pid: _worker_missing(ready, queue, pid), patience=patience)


def _api(settings: Settings) -> Part:
    # fmt: off
    command = _python(
        "gunicorn", "--config", "python:api.server", "--bind", f"{bracketed(settings.host)}:{settings.port}",
        "api.app:create_app()",
    )
    # fmt: on
    alive = f"{local_url(settings.host, settings.port)}/livez"
    return Part("api", command, lambda pid: _answer_missing(alive))


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _connection_missing(path: Path) -> str | None:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
    except OSError as error:
        return f"its socket does not answer ({error.strerror})"
    return None


def _worker_missing(url: str, queue: str, pid: int) -> str | None:
    """Every part must be ready, and this very worker among them: one that was killed is listed for a while."""
    answer = _get(url)
    if answer is None or not answer.ok:
        return _lacks(url, answer)
    names = answer.json()["parts"][f"{queue} workers"]
    return None if any(name.endswith(f"/{pid}") for name in names) else "it is not listed yet"


def _answer_missing(url: str) -> str | None:
    return _lacks(url, _get(url))


def _get(url: str) -> requests.Response | None:
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no business between two parts of one machine
        try:
            return session.get(url, timeout=5)
        except requests.RequestException:
            return None


def _lacks(url: str, answer: requests.Response | None) -> str | None:
    if answer is None:
        return f"{url} does not answer"
    if answer.ok:
        return None
    try:
        return str(answer.json()["detail"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return f"{url} answers {answer.status_code}"

"""An installation put together from the product's own commands: a durable broker, the API, and workers of an app."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
import requests

from benchmarks.scale.processes import PartError, started
from cli.client import collection_path
from cli.parts import Part, all_parts
from demo.stack import free_port
from shared.broker import connect_redis
from shared.ledger import JobSnapshot, Ledger
from shared.presence import Presence
from shared.settings import Settings
from tests.valkey import valkey

_LOOK_SECONDS = 0.1
_JOB_SECONDS = 1800.0
_DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")


@dataclass(frozen=True)
class Site:
    """A broker, and what of the product is started on it. `settings` are those of every process."""

    settings: Settings
    environment: dict[str, str]
    folder: Path
    redis: redis.Redis
    broker: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @contextmanager
    def api(self, **environment: str) -> Iterator[psutil.Process]:
        """The API, as `lookalike up` starts it."""
        part = self._part("api")
        with started(part.command, self.environment | environment, self.log("api"), part.missing) as process:
            yield process

    @contextmanager
    def workers(self, app: str, count: int, name: str) -> Iterator[list[psutil.Process]]:
        """Ingest workers of the Celery application `app`, all of them ready; each logs as `name`-0, `name`-1, …"""
        with ExitStack() as running:
            yield [running.enter_context(self._worker(app, f"{name}-{number}")) for number in range(count)]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def submit(self, collection: str, lines: Iterable[bytes]) -> str:
        """POST items, one NDJSON line each; the id of the job."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                self.url + collection_path(collection, "/jobs"),
                data=iter(lines),
                headers={"Content-Type": "application/x-ndjson"},
                timeout=_JOB_SECONDS,
            )
        if answer.status_code != 202:
            raise PartError(f"The API answered {answer.status_code}: {answer.text[:500]}")
        return str(answer.json()["id"])

    def ended(self, job: str) -> JobSnapshot:
        """The job once it has ended, all of it indexed, else PartError. The API has no work with this."""
        ledger, deadline = Ledger(self.redis, self.settings), time.monotonic() + _JOB_SECONDS
        while (snapshot := ledger.snapshot(job)).state not in ("done", "cancelled"):
            if time.monotonic() > deadline:
                raise PartError(f"The job did not end: {snapshot}")
            time.sleep(_LOOK_SECONDS)
        if snapshot.indexed != snapshot.total:
            raise PartError(f"Not all was indexed: {snapshot}")
        return snapshot

    @contextmanager
    def _worker(self, app: str, name: str) -> Iterator[psutil.Process]:
        changes = {"workers.app": app, "ingest@%h": f"{name}@%h"}
        command = [changes.get(word, word) for word in self._part("ingest-worker").command]
        with started(command, self.environment, self.log(name), self._worker_missing) as process:
            yield process

    def _worker_missing(self, pid: int) -> str | None:
        names = Presence(self.redis).alive("ingest")
        return None if any(name.endswith(f"/{pid}") for name in names) else "it does not say that it lives"

    def _part(self, name: str) -> Part:
        [part] = [part for part in all_parts(self.settings, self.folder) if part.name == name]
        return part


@contextmanager
def site(folder: Path, **environment: str) -> Iterator[Site]:
    """A site with nothing on it but its broker; `environment` is of all its processes. `folder` keeps the logs."""
    folder.mkdir(parents=True)
    with valkey(*_DURABLE) as url:
        ours = environment | {
            "REDIS_URL": url,
            "LOOKALIKE_PORT": str(free_port(0)),
            "LOOKALIKE_FETCH_ALLOW": "127.0.0.0/8",
            "LOOKALIKE_EMBED_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        settings = Settings(redis_url=url, port=int(ours["LOOKALIKE_PORT"]), data=folder, api_keys=None)
        with connect_redis(settings) as client:
            broker = psutil.Process(client.info("server")["process_id"])
            yield Site(settings, ours, folder, client, broker)


def ndjson(items: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    """A line an item."""
    return (json.dumps(item).encode() + b"\n" for item in items)

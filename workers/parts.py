"""What a worker is made of, built once at its start and never at import."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import redis
from celery import Celery

from shared.broker import Broker, connect_redis
from shared.errors import StartError
from shared.files import Files
from shared.ledger import Ledger
from shared.presence import BEAT_SECONDS, Presence
from shared.settings import Settings
from shared.thumbnails import Thumbnails
from shared.uploads import Uploads
from workers.crew import Crew
from workers.embed import choose_device
from workers.fetch import Fetcher
from workers.index import open_index
from workers.index.interface import Index
from workers.lease import Leases
from workers.models import Models, load_model
from workers.periodic import Periodic
from workers.placeholders import Placeholders
from workers.plan import planned
from workers.reconcile import Reconciler
from workers.turns import Turns


@dataclass(frozen=True)
class Parts:
    """The tools of every task. All are safe to share between the worker's threads."""

    settings: Settings
    redis: redis.Redis
    ledger: Ledger
    uploads: Uploads
    index: Index
    placeholders: Placeholders
    fetcher: Fetcher
    models: Models
    crew: Crew
    pool: ThreadPoolExecutor
    leases: Leases
    turns: Turns
    files: Files | None = None

    @property
    def thumbnails(self) -> Thumbnails | None:
        """None where no files are kept."""
        return Thumbnails(self.files) if self.files else None

    def close(self) -> None:
        """End what tasks leave behind: threads first, then what they use."""
        self.leases.close()
        self.pool.shutdown()
        self.models.close()
        self.fetcher.close()
        self.index.close()


def build_parts(settings: Settings) -> Parts:
    """Open everything that tasks need; StartError says what to change."""
    client, files = connect_redis(settings), _files(settings)
    ledger = Ledger(client, settings)
    unplanned, settings = settings, planned(settings, choose_device(settings))
    models = Models(unplanned, load_model(settings))
    index = open_index(settings)
    return Parts(
        settings=settings,
        redis=client,
        ledger=ledger,
        uploads=Uploads(client, settings),
        index=index,
        placeholders=Placeholders(index),
        fetcher=Fetcher(settings),
        models=models,
        crew=Crew(client, models),
        pool=ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch"),
        leases=Leases(ledger, settings.lease_seconds),
        turns=Turns(),
        files=files,
    )


def _files(settings: Settings) -> Files | None:
    """Where files are kept, tried out."""
    if settings.files is None:
        if settings.thumbnails:
            raise StartError("LOOKALIKE_THUMBNAILS needs LOOKALIKE_FILES, which says where they are kept.")
        return None
    files = Files(settings)
    files.probe()
    return files


class Rounds:
    """What a worker does on the side: says that it lives, and looks for what stands still."""

    def __init__(self, app: Celery, parts: Parts, worker: str, queues: list[str]) -> None:
        self._presence = Presence(parts.redis)
        self._crew = parts.crew
        self._worker = worker
        self._queues = queues
        self._model = parts.models.default.card.fingerprint
        self._periodics = [Periodic("presence", BEAT_SECONDS, self._beat)]
        if "search" in queues:
            self._periodics.append(Periodic("crew", BEAT_SECONDS, parts.crew.meet))
        if "ingest" in queues:
            reconciler = Reconciler(parts.redis, parts.ledger, Broker(app), parts.settings)
            self._periodics.append(Periodic("reconciler", parts.settings.reconcile_seconds, reconciler.run))

    def start(self) -> None:
        for periodic in self._periodics:
            periodic.start()

    def stop(self) -> None:
        for periodic in self._periodics:
            periodic.stop()
        with suppress(redis.RedisError):  # it may be away, and the name lapses by itself
            for queue in self._queues:
                self._presence.leave(queue, self._worker)
            self._crew.leave()

    def _beat(self) -> None:
        for queue in self._queues:
            self._presence.beat(queue, self._worker, self._model)

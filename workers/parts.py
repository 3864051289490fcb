"""What a worker is made of, built once at its start and never at import."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import redis
from celery import Celery

from shared.broker import Broker, connect_redis
from shared.ledger import Ledger
from shared.presence import BEAT_SECONDS, Presence
from shared.settings import Settings
from shared.uploads import Uploads
from workers.batcher import Batcher
from workers.decode import Picture, PixelShape
from workers.decoders import Decoders
from workers.embed import Embedder, choose_device, load_embedder
from workers.fetch import Fetcher
from workers.index import open_index
from workers.index.interface import Index
from workers.lease import Leases
from workers.periodic import Periodic
from workers.plan import planned
from workers.reconcile import Reconciler
from workers.rows import Rows
from workers.turns import Turns


@dataclass(frozen=True)
class Parts:
    """The tools of every task. All are safe to share between the worker's threads."""

    settings: Settings
    redis: redis.Redis
    ledger: Ledger
    uploads: Uploads
    index: Index
    fetcher: Fetcher
    rows: Rows
    decoders: Decoders
    embedder: Embedder
    batcher: Batcher
    pool: ThreadPoolExecutor
    leases: Leases
    turns: Turns

    def line_up(self, data: bytes | bytearray, *, urgent: bool = False) -> tuple[Picture, Future[np.ndarray]]:
        """Decode a picture and line it up for the model. Its pixels stand until its vector is there, no longer."""
        picture = self.decoders.decode(data, urgent=urgent)
        try:
            vector = self.batcher.submit(picture.pixels, urgent=urgent)
        except BaseException:
            picture.let_go()
            raise
        vector.add_done_callback(lambda _: picture.let_go())
        return picture, vector

    def close(self) -> None:
        """End what tasks leave behind: threads first, then what they use."""
        self.leases.close()
        self.pool.shutdown()
        self.decoders.close()
        self.batcher.close()
        self.rows.close()
        self.fetcher.close()
        self.index.close()


def build_parts(settings: Settings) -> Parts:
    """Open everything that tasks need; StartError says what to change."""
    client = connect_redis(settings)
    ledger = Ledger(client, settings)
    settings = planned(settings, choose_device(settings))
    embedder = load_embedder(settings)
    rows = _rows(settings, embedder.shape)
    decoders = Decoders(settings, embedder.shape, rows)
    decoders.warm()
    return Parts(
        settings=settings,
        redis=client,
        ledger=ledger,
        uploads=Uploads(client, settings),
        index=open_index(settings),
        fetcher=Fetcher(settings),
        rows=rows,
        decoders=decoders,
        embedder=embedder,
        batcher=Batcher(embedder, batch_size=settings.batch_size, threads=settings.embed_threads),
        pool=ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch"),
        leases=Leases(ledger, settings.lease_seconds),
        turns=Turns(),
    )


def _rows(settings: Settings, shape: PixelShape) -> Rows:
    """For what is in the model, for three times as much that waits for it, and for what is being decoded."""
    waiting = 4 * settings.batch_size * settings.embed_threads
    return Rows(waiting + 2 * settings.decode_processes, shape, reserve=settings.decode_processes)


class Rounds:
    """What a worker does on the side: says that it lives, and looks for what stands still."""

    def __init__(self, app: Celery, parts: Parts, worker: str, queues: list[str]) -> None:
        self._presence = Presence(parts.redis)
        self._worker = worker
        self._queues = queues
        self._model = parts.embedder.card.fingerprint
        self._periodics = [Periodic("presence", BEAT_SECONDS, self._beat)]
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

    def _beat(self) -> None:
        for queue in self._queues:
            self._presence.beat(queue, self._worker, self._model)

"""One chunk's story: fetch → decode → embed → upsert → report. No Celery here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from shared.contract import SYSTEM_KEY, Chunk, ChunkReport, Item, ItemOutcome, PutOff
from shared.errors import FailureCode, ItemError
from shared.settings import Settings
from workers.collections import find_or_make
from workers.decode import Picture
from workers.hosts import NoTurn
from workers.index.interface import Collection, Point
from workers.lease import LeaseState
from workers.models import Model
from workers.parts import Parts

# A server that wants more than this keeps nobody waiting: its items fail, to be tried again when a person says so.
_LONGEST_PAUSE_SECONDS = 120.0


@dataclass(frozen=True)
class Prepared:
    """An item whose bytes are here. `picture` and `vector` are None where the image stands already."""

    item: Item
    sha256: str
    size: int
    picture: Picture | None = None
    vector: Future[np.ndarray] | None = None


def ingest(chunk: Chunk, parts: Parts, lease: Callable[[], LeaseState]) -> ChunkReport | None:
    """Index a chunk's items; the report says how each one ended, or None where the lease was lost.

    When it returns, all that it reports as indexed is durable. A service that fails raises, and nothing is
    reported. `lease` renews the chunk's lease and says what became of it. Items whose fault may pass by itself are
    put off, to be fetched again.
    """
    collection = find_or_make(parts.index, chunk.collection, parts.models.default.card)
    standing = parts.index.retrieve(collection.key, [item.id for item in chunk.items])
    with parts.models.of(collection.card) as model:
        prepared = _prepare_all(chunk, standing, model, parts)
        return _write(chunk, collection, standing, prepared, parts, lease)


def _prepare_all(
    chunk: Chunk, standing: dict[str, Point], model: Model, parts: Parts
) -> list[tuple[Item, Prepared | ItemError]]:
    ready = parts.pool.map(lambda item: _prepare(item, standing.get(item.id), model, parts), chunk.items)
    return list(zip(chunk.items, ready, strict=True))


def _write(
    chunk: Chunk,
    collection: Collection,
    standing: dict[str, Point],
    prepared: list[tuple[Item, Prepared | ItemError]],
    parts: Parts,
    lease: Callable[[], LeaseState],
) -> ChunkReport | None:
    put_off = Patience(chunk, parts.settings).put_off(prepared)
    waiting = {item.id for later in put_off for item in later.items}
    writes = Writes(chunk, standing, collection.card.fingerprint)
    for item, ready in prepared:
        if item.id not in waiting:
            writes.add(item, ready)
    match lease():
        case "lost":
            return None
        case "cancelled":
            return _all_cancelled(chunk)
    if writes.points:
        parts.index.upsert(collection.key, list(writes.points.values()))
    if writes.payloads:
        parts.index.set_payloads(collection.key, writes.payloads)
    return ChunkReport(chunk, writes.outcomes, put_off)


def exhausted(chunk: Chunk, last_error: str | None) -> ChunkReport:
    """The report of an item that broke every run: a job always ends."""
    detail = f"{chunk.attempt - 1} runs with this item broke. The last: {last_error or 'its worker died'}"
    return _all_failed(chunk, FailureCode.ATTEMPTS_EXHAUSTED, detail, attempts=chunk.attempt - 1)


def hopeless(chunk: Chunk, reason: str) -> ChunkReport:
    """The report of a chunk that would break in every run, for a reason of its collection's."""
    return _all_failed(chunk, FailureCode.ATTEMPTS_EXHAUSTED, reason)


class Patience:
    """How long an item is worth another fetch: so many fetches, pauses that triple, a longer Retry-After kept.

    An item that had no turn at its host was not fetched, so that costs it none.
    """

    def __init__(self, chunk: Chunk, settings: Settings) -> None:
        self._fetches = chunk.fetches + 1
        self._most = settings.fetch_attempts
        self._pause = settings.fetch_retry_seconds * 3**chunk.fetches

    def put_off(self, prepared: Sequence[tuple[Item, Prepared | ItemError]]) -> list[PutOff]:
        """What waits. Items of one id wait together and in order, so that the last of them still stands."""
        waits: dict[str, tuple[int, float]] = {}
        for item, ready in prepared:
            wait = self._wait(ready) if isinstance(ready, ItemError) else None
            if wait:
                waits[item.id] = max(wait, waits.get(item.id, wait))
        groups: dict[int, list[tuple[Item, float]]] = {}
        for item, _ in prepared:
            if item.id in waits:
                fetches, pause = waits[item.id]
                groups.setdefault(fetches, []).append((item, pause))
        return [
            PutOff([item for item, _ in group], fetches, max(pause for _, pause in group))
            for fetches, group in groups.items()
        ]

    def _wait(self, error: ItemError) -> tuple[int, float] | None:
        """Fetches so far and seconds until the next; None where this fault stands."""
        if error.again_after is None:
            return None
        pause = max(error.again_after, self._pause)
        if isinstance(error, NoTurn):
            return self._fetches - 1, pause
        if self._fetches < self._most and error.again_after <= _LONGEST_PAUSE_SECONDS:
            return self._fetches, pause
        return None


class Writes:
    """What a chunk writes. Items are added in order; of several with one id the last one stands."""

    def __init__(self, chunk: Chunk, standing: dict[str, Point], fingerprint: str) -> None:
        self._chunk = chunk
        self._fingerprint = fingerprint
        self._standing = {id: point.payload for id, point in standing.items()}
        self.points: dict[str, Point] = {}
        self.payloads: dict[str, dict[str, Any]] = {}
        self.outcomes: list[ItemOutcome] = []
        self._seen: set[str] = set()

    def add(self, item: Item, ready: Prepared | ItemError) -> None:
        """Plan one item's write and its outcome."""
        try:
            if isinstance(ready, ItemError):
                raise ready
            self.outcomes.append(self._unchanged(ready) if ready.vector is None else self._indexed(ready))
            self._seen.add(item.id)
        except ItemError as error:
            attempts = self._chunk.fetches + 1
            outcome = ItemOutcome(item, "failed", error.code, error.detail, error.retryable, attempts)
            self.outcomes.append(outcome)

    def _indexed(self, ready: Prepared) -> ItemOutcome:
        assert ready.vector is not None
        assert ready.picture is not None
        vector = ready.vector.result()
        twin = self.points.get(ready.item.id)
        payload = ready.item.payload | {SYSTEM_KEY: self._system_fields(ready, ready.picture)}
        self.points[ready.item.id] = Point(ready.item.id, payload, vector)
        self.payloads.pop(ready.item.id, None)
        same = twin is not None and twin.payload[SYSTEM_KEY]["sha256"] == ready.sha256
        return ItemOutcome(ready.item, "unchanged" if same else "indexed")

    def _unchanged(self, ready: Prepared) -> ItemOutcome:
        """The same bytes stand under this model; the payload and the URL are brought up to date."""
        id, before = ready.item.id, self._standing[ready.item.id]
        system = before[SYSTEM_KEY] | {"url": ready.item.url}
        after = ready.item.payload | {SYSTEM_KEY: system}
        self.points.pop(id, None)
        if after != before or id in self.payloads:
            self.payloads[id] = after
        # This very chunk wrote it, in a run that ended before it could report: the job indexed it.
        own_work = system.get("job") == self._chunk.mark and id not in self._seen
        return ItemOutcome(ready.item, "indexed" if own_work else "unchanged")

    def _system_fields(self, ready: Prepared, picture: Picture) -> dict[str, Any]:
        return {
            "id": ready.item.id,
            "url": ready.item.url,
            "sha256": ready.sha256,
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "bytes": ready.size,
            "model": self._fingerprint,
            "indexed_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "job": self._chunk.mark,
        }


def _prepare(item: Item, standing: Point | None, model: Model, parts: Parts) -> Prepared | ItemError:
    """Fetch, and where the bytes are new, decode and line up for the model. Runs on the fetch threads."""
    try:
        if item.refused:
            raise ItemError(item.refused.code, item.refused.detail)
        data = _read(item, parts)
        sha256 = hashlib.sha256(data).hexdigest()
        if standing and _is_same(standing, sha256, model.card.fingerprint):
            return Prepared(item, sha256, len(data))
        picture, vector = model.line_up(data)
        return Prepared(item, sha256, len(data), picture, vector)
    except ItemError as error:
        return error


def _read(item: Item, parts: Parts) -> bytes | bytearray:
    if item.url is not None:
        return parts.fetcher.fetch(item.url).data
    data = parts.uploads.read(item.upload or "")
    if data is None:
        raise ItemError(FailureCode.EMPTY, "The uploaded bytes are no longer kept; upload the file again.")
    return data


def _is_same(standing: Point, sha256: str, fingerprint: str) -> bool:
    system = standing.payload.get(SYSTEM_KEY, {})
    return system.get("sha256") == sha256 and system.get("model") == fingerprint


def _all_cancelled(chunk: Chunk) -> ChunkReport:
    return _all_failed(chunk, FailureCode.CANCELLED, "The job was cancelled before this item was indexed.")


def _all_failed(chunk: Chunk, code: FailureCode, detail: str, attempts: int = 1) -> ChunkReport:
    outcomes = [ItemOutcome(item, "failed", code, detail, True, attempts) for item in chunk.items]
    return ChunkReport(chunk, outcomes)

"""What a chunk writes, and how each of its items ends by that."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shared.contract import SYSTEM_KEY, Chunk, Item, ItemOutcome
from shared.errors import ItemError
from workers.index.interface import Point
from workers.preparation import Prepared


class Writes:
    """Items are added in order; of several with one id the last one stands.

    `thumbnails` are WebP files by the sha256 of the bytes that they show.
    """

    def __init__(self, chunk: Chunk, standing: dict[str, Point], fingerprint: str) -> None:
        self._chunk = chunk
        self._fingerprint = fingerprint
        self._standing = {id: point.payload for id, point in standing.items()}
        self.points: dict[str, Point] = {}
        self.payloads: dict[str, dict[str, Any]] = {}
        self.thumbnails: dict[str, bytes] = {}
        self.outcomes: list[ItemOutcome] = []
        self._seen: set[str] = set()
        self._left: set[str] = set()

    def add(self, item: Item, ready: Prepared | ItemError) -> None:
        """Plan one item's write and its outcome."""
        try:
            if isinstance(ready, ItemError):
                raise ready
            self.outcomes.append(self._unchanged(ready) if ready.vector is None else self._indexed(ready))
            self._seen.add(item.id)
            if ready.thumbnail:
                self.thumbnails[ready.system["sha256"]] = ready.thumbnail
        except ItemError as error:
            attempts = self._chunk.fetches + 1
            outcome = ItemOutcome(item, "failed", error.code, error.detail, error.retryable, attempts)
            self.outcomes.append(outcome)

    def leave(self, ids: Collection[str]) -> None:
        """Write nothing of these images: what stands came later, and they end as unchanged."""
        for id in ids:
            point = self.points.pop(id, None)
            payload = point.payload if point else self.payloads.pop(id, None)
            if payload and self.thumbnails.pop(payload[SYSTEM_KEY]["sha256"], None):
                self._left.add(payload[SYSTEM_KEY]["sha256"])
        self.outcomes = [
            replace(outcome, status="unchanged")
            if outcome.item.id in ids and outcome.status == "indexed"
            else outcome
            for outcome in self.outcomes
        ]

    def replaced(self) -> Iterator[str]:
        """The sha256 of each thumbnail that shows what an image of the chunk no longer is, or was not written as."""
        yield from self._left
        for id, point in self.points.items():
            before = self._standing.get(id, {}).get(SYSTEM_KEY, {})
            if before.get("thumbnail") and before["sha256"] != point.payload[SYSTEM_KEY]["sha256"]:
                yield before["sha256"]

    def _indexed(self, ready: Prepared) -> ItemOutcome:
        assert ready.vector is not None
        vector = ready.vector.result()
        twin = self.points.get(ready.item.id)
        payload = ready.item.payload | {SYSTEM_KEY: self._system_fields(ready)}
        self.points[ready.item.id] = Point(ready.item.id, payload, vector)
        self.payloads.pop(ready.item.id, None)
        same = twin is not None and twin.payload[SYSTEM_KEY]["sha256"] == ready.system["sha256"]
        return ItemOutcome(ready.item, "unchanged" if same else "indexed")

    def _unchanged(self, ready: Prepared) -> ItemOutcome:
        """The same bytes stand under this model; the payload and the URL are brought up to date."""
        id, before = ready.item.id, self._standing[ready.item.id]
        system = ready.system | {"url": ready.item.url}
        after = ready.item.payload | {SYSTEM_KEY: system}
        self.points.pop(id, None)
        if after != before or id in self.payloads:
            # A copy of the image elsewhere is older from now on (`versions.missing`).
            self.payloads[id] = after | {SYSTEM_KEY: system | {"updated_at": _changed_at(ready.item)}}
        # This very chunk wrote it, in a run that ended before it could report: the job indexed it.
        own_work = system.get("job") == self._chunk.mark and id not in self._seen
        return ItemOutcome(ready.item, "indexed" if own_work else "unchanged")

    def _system_fields(self, ready: Prepared) -> dict[str, Any]:
        return {
            "id": ready.item.id,
            "url": ready.item.url,
            **ready.system,
            "model": self._fingerprint,
            "indexed_at": _changed_at(ready.item),
            "job": self._chunk.mark,
        }


def _changed_at(item: Item) -> str:
    """A copy is as old as what it is copied from: what changes there while it is on its way is newer."""
    return item.changed_at or datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""How long an item is worth another fetch."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contract import Chunk, Item, PutOff
from shared.errors import ItemError
from shared.settings import Settings
from workers.hosts import NoTurn
from workers.preparation import Prepared

# A server that wants more than this keeps nobody waiting: its items fail, to be tried again when a person says so.
_LONGEST_PAUSE_SECONDS = 120.0


class Patience:
    """So many fetches, pauses that triple, a longer Retry-After kept.

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

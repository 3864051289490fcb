"""The images of a collection by their nearness to a vector, of those that fulfil a filter."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from shared.errors import FailureCode, ItemError
from workers import conditions
from workers.conditions import Condition
from workers.index.interface import Filter, Index, ScoredPoint


@dataclass(frozen=True)
class Neighbours:
    """All of them, though none is read before it is asked for. `vector` is float32[dimension].

    Every question raises ItemError(TIMEOUT) after `until`, in seconds of the epoch.
    """

    index: Index
    collection: str
    vector: np.ndarray
    filter: Filter | None = None
    score_threshold: float | None = None
    exact: bool = False
    until: float = math.inf

    def nearest(self, limit: int, offset: int = 0) -> list[ScoredPoint]:
        """Nearest first."""
        self._check_time()
        return self.index.query(
            self.collection,
            self.vector,
            filter=self.filter,
            limit=limit,
            offset=offset,
            score_threshold=self.score_threshold,
            exact=self.exact,
        )

    def narrowed(
        self, *, must: Iterable[Condition] = (), must_not: Iterable[Condition] = (), exact: bool = False
    ) -> Neighbours:
        """Fewer of them. `exact`: none of those is missed."""
        filter = conditions.narrowed(self.filter, must=must, must_not=must_not)
        return replace(self, filter=filter, exact=self.exact or exact)

    def total(self) -> int:
        """Exactly how many fulfil the filter."""
        self._check_time()
        return self.index.count(self.collection, filter=self.filter)

    def more_than(self, number: int) -> bool:
        """Whether more of them than that reach the threshold."""
        if self.score_threshold is None:
            return self.total() > number
        return bool(self.nearest(1, number))

    def count(self) -> int:
        """Exactly how many of them reach the threshold. No engine counts that, so its place among all is looked for."""
        total = self.total()
        if self.score_threshold is None:
            return total
        return bisect_left(range(total), True, key=lambda skipped: not self.nearest(1, skipped))

    def _check_time(self) -> None:
        check_time(self.until)


def check_time(until: float) -> None:
    """ItemError(TIMEOUT) after `until`, in seconds of the epoch."""
    if time.time() > until:
        raise ItemError(
            FailureCode.TIMEOUT,
            "The search took longer than half of LOOKALIKE_IDLE_SECONDS, or than its answer is kept "
            "(LOOKALIKE_SEARCH_TTL). Narrow it with a filter, ask for fewer groups, or send smaller batches.",
        )

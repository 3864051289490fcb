"""Vectors as a model of pictures gives them: near one of many centres, spread along few directions, with some grain.

They are made block by block, each from its number alone, so that a million need not be held.
"""

from __future__ import annotations

import numpy as np

DIMENSION = 384
BLOCK = 5_000
NEIGHBOURS = 10

_CENTRES = 1_000
_DIRECTIONS = 32
_QUERIES = -1  # the block that is never indexed


class Clusters:
    """An endless row of vectors of length 1, always the same."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._centres = random.normal(size=(_CENTRES, DIMENSION)).astype(np.float32)
        self._directions = 0.5 * random.normal(size=(_DIRECTIONS, DIMENSION)).astype(np.float32)

    def block(self, number: int) -> np.ndarray:
        """The vectors from `number` * BLOCK on: float32 [BLOCK, DIMENSION]."""
        return self._made(number, BLOCK)

    def queries(self, count: int) -> np.ndarray:
        """Others of the same kind: float32 [count, DIMENSION]."""
        return self._made(_QUERIES, count)

    def _made(self, number: int, count: int) -> np.ndarray:
        random = np.random.default_rng([1, number - _QUERIES])
        along = random.normal(size=(count, _DIRECTIONS)).astype(np.float32) @ self._directions
        grain = 0.3 * random.normal(size=(count, DIMENSION)).astype(np.float32)
        vectors = self._centres[random.integers(0, _CENTRES, count)] + along + grain
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Truth:
    """The exact nearest neighbours of some queries among all vectors that were added."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self._scores = np.full((len(queries), NEIGHBOURS), -np.inf, np.float32)
        self._numbers = np.full((len(queries), NEIGHBOURS), -1)

    def add(self, first: int, vectors: np.ndarray) -> None:
        """float32 [N, D]; they are numbered from `first` on."""
        numbers = np.broadcast_to(np.arange(first, first + len(vectors)), (len(self.queries), len(vectors)))
        scores = np.hstack([self._scores, self.queries @ vectors.T])
        numbers = np.hstack([self._numbers, numbers])
        best = np.argpartition(-scores, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._numbers = np.take_along_axis(numbers, best, axis=1)

    def recall(self, found: list[list[int]]) -> float:
        """Which share of the true neighbours the answers to all queries hold."""
        hits = sum(len(set(row) & set(true)) for row, true in zip(found, self._numbers.tolist(), strict=True))
        return hits / self._numbers.size

"""Sets of images that are the same: by their bytes, or by vectors that are nearly equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cli.progress import watched
from cli.study.gathering import Vectors

_ROWS, _COLUMNS = 512, 8192  # of one block of similarities
_NOISE = 5e-7  # of a float32 similarity


def alike(hashes: Sequence[str], vectors: Vectors, threshold: float) -> list[list[int]]:
    """Places of two and more images that hang together, ascending, sets in the order of their first.

    Two hang together where their `hashes` are equal or the cosine similarity of their unit `vectors` [N, D] is at
    least `threshold`; so do two that a third joins.
    """
    forest = Forest(len(hashes))
    first_of: dict[str, int] = {}
    for place, digest in enumerate(hashes):
        forest.join(first_of.setdefault(digest, place), np.array([place]))
    for place, others in _near(vectors, np.array(list(first_of.values())), threshold - _NOISE):
        forest.join(place, others)
    return forest.sets()


class Forest:
    """Disjoint sets of the places 0 to `count`; the root of each is its first."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count)

    def join(self, place: int, others: NDArray[np.intp]) -> None:
        """`place` and `others` are of one set."""
        roots = np.unique(self._roots(np.append(others, place)))
        self._parents[roots] = roots[0]

    def sets(self) -> list[list[int]]:
        """Those of two and more."""
        roots = self._roots(np.arange(len(self._parents)))
        order = np.argsort(roots, kind="stable")
        _, starts = np.unique(roots[order], return_index=True)
        return [members.tolist() for members in np.split(order, starts[1:]) if len(members) > 1]

    def _roots(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        roots = self._parents[places]
        while not np.array_equal(higher := self._parents[roots], roots):
            roots = higher
        self._parents[places] = roots  # so that the way is short next time
        return roots


def _near(
    vectors: Vectors, places: NDArray[np.intp], threshold: float
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each place with the later ones that are near enough; one block of similarities at a time."""
    for start in watched(range(0, len(places), _ROWS), "Comparing", None):
        rows = vectors[places[start : start + _ROWS]]
        for left in range(start, len(places), _COLUMNS):
            columns = places[left : left + _COLUMNS]
            near = rows @ vectors[columns].T >= threshold
            near &= columns > places[start : start + _ROWS, None]
            for row in np.flatnonzero(near.any(axis=1)):
                yield int(places[start + row]), columns[near[row]]

"""workers/neighbours.py over every engine."""

from __future__ import annotations

import numpy as np

from tests.workers.index.shop import fill
from workers.index.interface import Index
from workers.neighbours import Neighbours

FIRST = np.array([1, 0, 0, 0], dtype=np.float32)


def test_all_are_counted(index: Index) -> None:
    fill(index)
    assert Neighbours(index, "shop", FIRST).count() == 8
    red = {"must": [{"key": "brand", "match": {"value": "ada"}}]}
    assert Neighbours(index, "shop", FIRST, red).count() == 2


def test_those_over_a_threshold_are_counted(index: Index) -> None:
    fill(index)
    scores = [point.score for point in Neighbours(index, "shop", FIRST, exact=True).nearest(8)]
    for at_least in range(1, 8):
        threshold = (scores[at_least - 1] + scores[at_least]) / 2
        assert Neighbours(index, "shop", FIRST, score_threshold=threshold, exact=True).count() == at_least
    assert Neighbours(index, "shop", FIRST, score_threshold=1.5, exact=True).count() == 0


def test_fewer_of_them_fulfil_all_conditions(index: Index) -> None:
    fill(index)
    all = Neighbours(index, "shop", FIRST, {"must": {"key": "sale", "match": {"value": True}}})
    fewer = all.narrowed(must_not=[{"key": "brand", "match": {"value": "bob"}}])
    assert [point.id for point in fewer.nearest(10)] == ["i0"]

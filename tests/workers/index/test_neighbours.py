"""workers/neighbours.py over every engine."""

from __future__ import annotations

import time

import numpy as np
import pytest

from shared.errors import FailureCode, ItemError
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


@pytest.mark.parametrize("threshold", [None, 0.9])
def test_whether_there_are_more_than_so_many_is_told(index: Index, threshold: float | None) -> None:
    fill(index)
    near = Neighbours(index, "shop", FIRST, score_threshold=threshold, exact=True)
    count = near.count()
    assert [near.more_than(number) for number in (0, count - 1, count, count + 1)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("question", ["total", "count", "nearest", "more_than"])
def test_no_question_is_asked_when_nobody_waits_any_more(index: Index, question: str) -> None:
    fill(index)
    late = Neighbours(index, "shop", FIRST, until=time.time() - 1).narrowed(must=[{"has_id": [1]}])
    with pytest.raises(ItemError, match="LOOKALIKE_SEARCH_TTL") as refused:
        getattr(late, question)(*[1] * (question in ("nearest", "more_than")))
    assert refused.value.code is FailureCode.TIMEOUT


def test_fewer_of_them_fulfil_all_conditions(index: Index) -> None:
    fill(index)
    all = Neighbours(index, "shop", FIRST, {"must": {"key": "sale", "match": {"value": True}}})
    fewer = all.narrowed(must_not=[{"key": "brand", "match": {"value": "bob"}}])
    assert [point.id for point in fewer.nearest(10)] == ["i0"]

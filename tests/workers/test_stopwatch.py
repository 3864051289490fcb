"""workers/stopwatch.py: stages, added up."""

from __future__ import annotations

import pytest

from workers.stopwatch import Stopwatch


def test_a_stage_that_runs_twice_adds_up_and_the_others_stay() -> None:
    took = Stopwatch(queue=1.239)
    with took.of("fetch"):
        sum(range(100_000))
    once = took.milliseconds["fetch"]
    with took.of("fetch"):
        sum(range(100_000))
    assert took.milliseconds["fetch"] > once > 0
    assert (took.milliseconds["queue"], took.milliseconds["embed"]) == (1.24, 0)


def test_a_stage_that_fails_is_timed_too() -> None:
    took = Stopwatch(queue=0)
    with pytest.raises(ZeroDivisionError), took.of("search"):
        sum(range(100_000)) / 0
    assert took.milliseconds["search"] > 0

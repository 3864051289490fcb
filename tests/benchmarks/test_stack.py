from __future__ import annotations

import pytest

from benchmarks.stack import Ingested, Moment


def test_the_rate_counts_all_seconds_and_the_steady_one_those_between() -> None:
    waiting = [Moment(second, 0) for second in range(5)]
    working = [Moment(5 + second, 50 * second) for second in range(20)]
    ingested = Ingested(1000, 30.0, [*waiting, *working, Moment(30, 1000)], {}, others=0, idle=0)
    assert ingested.rate == pytest.approx(1000 / 30)
    assert ingested.steady_rate == pytest.approx(50)


def test_a_job_that_ended_between_two_looks_has_one_rate() -> None:
    ingested = Ingested(100, 4.0, [Moment(0, 0), Moment(4.0, 100)], {}, others=0, idle=0)
    assert ingested.steady_rate == ingested.rate == 25.0


def test_the_profile_is_by_image_and_says_what_was_not_spent_on_it() -> None:
    ingested = Ingested(1000, 30.0, [], {"API": 1.0, "ingest worker": 50.0}, others=3.0, idle=6.0)
    assert ingested.profile == {"ingest worker": 50.0, "API": 1.0, "other programs": 3.0, "idle": 6.0}
    assert ingested.cpu_an_image == 51.0

from __future__ import annotations

import pytest

from benchmarks.scale.searches import Answered, Searches, rows_of


def _searches(whole: float, beside: float) -> Searches:
    """Searches whose parts take 20 ms, 3 ms of which are the query, and a small batch of 50 ms."""
    stages = {"queue": 2.0, "fetch": 1.0, "embed": 19.0, "search": 4.0}
    return Searches(
        alone=[Answered(whole, stages)] * 4,
        parts={"decode": [5.0] * 4, "embed": [12.0] * 4, "query": [3.0] * 4},
        small_batch=50.0,
        beside=[Answered(beside, stages)] * 4,
        rate=10.0,
    )


def test_the_hop_is_the_whole_less_its_parts_and_its_profile_adds_up_to_it() -> None:
    hop, whole, _ = rows_of(_searches(whole=29.0, beside=60.0))
    assert hop.ours == pytest.approx(9.0)
    assert hop.verdict == "met"
    assert sum(hop.profile.values()) == pytest.approx(9.0)
    assert hop.profile["upload, API and answer"] == pytest.approx(3.0)
    assert (whole.ours, whole.theirs) == (pytest.approx(29.0), pytest.approx(20.0))


def test_a_hop_over_ten_milliseconds_falls_short() -> None:
    assert rows_of(_searches(whole=31.0, beside=60.0))[0].verdict == "short"


@pytest.mark.parametrize(("beside", "verdict"), [(109.0, "met"), (111.0, "short")])
def test_beside_an_ingest_a_search_may_take_twice_as_long_and_a_small_batch(
    beside: float, verdict: str
) -> None:
    row = rows_of(_searches(whole=30.0, beside=beside))[2]
    assert row.theirs == pytest.approx(110.0)
    assert row.verdict == verdict

from __future__ import annotations

import pytest

from benchmarks.row import Row


def row(ours: float, theirs: float, **target: float) -> Row:
    return Row("ingest", "end to end", ours, theirs, "images/s", "a note", **target)


@pytest.mark.parametrize(
    ("ours", "target", "verdict"),
    [
        (19.0, {"at_least": 0.95}, "met"),
        (18.9, {"at_least": 0.95}, "short"),
        (20.0, {"at_most": 1.0}, "met"),
        (20.1, {"at_most": 1.0}, "short"),
        (5.0, {}, ""),
    ],
)
def test_a_ratio_is_held_against_its_target(ours: float, target: dict[str, float], verdict: str) -> None:
    assert row(ours, 20.0, **target).verdict == verdict


def test_the_ratio_is_ours_by_theirs() -> None:
    assert row(30.0, 20.0).ratio == 1.5


def test_what_was_not_run_says_why_and_meets_nothing() -> None:
    missing = Row.not_run("ingest", "int8", "OpenVINO is not installed")
    assert missing.verdict == "not run"
    assert missing.ratio is None
    assert missing.note == "not run: OpenVINO is not installed"

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.scale.workers import steady_rate


def _log(path: Path, passes: Iterable[tuple[float, int]]) -> Path:
    """A worker's log: the second in which each pass ended, and its images."""
    lines = [
        {"time": f"2026-01-01T00:00:{second:06.3f}Z", "message": f"embedded {images}"}
        for second, images in passes
    ]
    path.write_text("a warning of Celery's\n" + "\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_the_steady_rate_of_one_worker_leaves_its_start_out(tmp_path: Path) -> None:
    log = _log(tmp_path / "one", [(10.0, 16), (11.0, 16), (12.0, 16)])
    assert steady_rate([log]) == pytest.approx(16)


def test_the_steady_rate_of_several_counts_only_while_all_are_at_work(tmp_path: Path) -> None:
    early = _log(tmp_path / "early", [(second, 16) for second in range(1, 12)])
    late = _log(tmp_path / "late", [(second, 16) for second in range(6, 21)])
    assert steady_rate([early, late]) == pytest.approx(32)


def test_workers_that_never_worked_at_the_same_time_have_no_steady_rate(tmp_path: Path) -> None:
    first = _log(tmp_path / "first", [(1.0, 16), (2.0, 16)])
    second = _log(tmp_path / "second", [(5.0, 16), (6.0, 16)])
    assert steady_rate([first, second]) == 0

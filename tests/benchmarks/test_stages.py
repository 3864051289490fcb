from __future__ import annotations

import pytest

from benchmarks.stages import Stages


def test_the_limit_is_the_cores_over_the_sum_of_the_stages() -> None:
    stages = Stages(fetch=0.6, decode=2.4, forward=97.0, forward_alone=90.0, bare_decode=2.0)
    assert stages.limit(cores=2) == pytest.approx(20.0)


def test_two_measurements_have_a_mean() -> None:
    mean = Stages(1.0, 2.0, 3.0, 4.0, 5.0).mean(Stages(3.0, 4.0, 5.0, 6.0, 7.0))
    assert mean == Stages(2.0, 3.0, 4.0, 5.0, 6.0)

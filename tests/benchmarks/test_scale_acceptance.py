from __future__ import annotations

from benchmarks.scale.acceptance import Acceptance


def test_memory_is_flat_against_what_the_first_tenth_of_the_job_held() -> None:
    accepted = Acceptance(
        items=1000,
        seconds=10.0,
        api_cpu=1.0,
        broker_cpu=1.0,
        memory=[(0.0, 90.0), (0.9, 100.0), (1.1, 104.0), (9.0, 110.0)],
        broker_before=0,
        broker_after=1,
    )
    assert accepted.warm == 100.0
    assert accepted.most == 110.0
    assert accepted.rate == 100.0

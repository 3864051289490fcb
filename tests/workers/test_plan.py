"""workers/plan.py: threads and processes from the cores at hand."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from shared.settings import Settings
from workers import memory
from workers.plan import cores, planned


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty control group around this process, of version 2."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "membership")
    (tmp_path / "membership").write_text("0::/pod/worker\n")
    (tmp_path / "pod/worker").mkdir(parents=True)
    return tmp_path


def test_what_is_left_to_the_worker_is_planned_from_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.plan.cores", lambda: 4)
    plan = planned(Settings(), "cpu")
    assert (plan.embed_threads, plan.batch_size, plan.decode_processes, plan.fetch_threads) == (4, 4, 4, 32)


def test_a_gpu_computes_large_batches_and_leaves_the_cores_to_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.plan.cores", lambda: 16)
    plan = planned(Settings(), "cuda")
    assert (plan.embed_threads, plan.batch_size, plan.decode_processes, plan.fetch_threads) == (
        2,
        256,
        16,
        128,
    )


def test_a_cpu_takes_no_more_than_four_at_once() -> None:
    assert [planned(Settings(batch_size=size), "cpu").batch_size for size in (1, 3, 4, 16)] == [1, 3, 4, 4]
    assert planned(Settings(batch_size=16), "cuda").batch_size == 16


def test_metal_is_used_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.plan.cores", lambda: 8)
    plan = planned(Settings(), "mps")
    assert (plan.embed_threads, plan.batch_size, plan.decode_processes, plan.fetch_threads) == (1, 16, 8, 64)


def test_what_is_set_stands() -> None:
    asked = Settings(embed_threads=3, batch_size=2, decode_processes=7, fetch_threads=9)
    assert planned(asked, "cpu") == asked


def test_the_plan_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lookalike.plan"):
        planned(Settings(embed_threads=3, batch_size=2, decode_processes=7, fetch_threads=9), "cpu")
    assert "3 forwards of up to 2 pictures at once, 7 decoding processes, 9 fetches" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_container_with_a_share_of_the_cores_gets_no_more(container: Path) -> None:
    assert cores() == len(os.sched_getaffinity(0))
    (container / "pod/worker/cpu.max").write_text("max 100000\n")
    assert cores() == len(os.sched_getaffinity(0))
    (container / "pod/cpu.max").write_text("150000 100000\n")
    assert cores() == 1
    (container / "pod/worker/cpu.max").write_text("20000 100000\n")
    assert cores() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_share_of_version_1_counts_too(container: Path) -> None:
    (container / "membership").write_text("4:cpu,cpuacct:/pod\n")
    group = container / "cpu/pod"
    group.mkdir(parents=True)
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cores() == len(os.sched_getaffinity(0))
    (group / "cpu.cfs_quota_us").write_text("100000\n")
    assert cores() == 1

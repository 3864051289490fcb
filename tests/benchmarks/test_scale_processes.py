from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.scale.processes import PartError, Sampler, cpu_seconds, resident_bytes, started
from tests.running import until

_SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
_WORK = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass\n"]


def test_a_process_ends_with_its_block(tmp_path: Path) -> None:
    with started(_SLEEP, {}, tmp_path / "log", lambda pid: None) as process:
        assert process.is_running()
        assert resident_bytes(process) > 0
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_dies_before_it_is_ready_says_what_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such door')"]
    with (
        pytest.raises(PartError, match=r"it is not there\s*no such door"),
        started(command, {}, tmp_path / "log", lambda pid: "it is not there"),
    ):
        pass


def test_settings_of_this_environment_do_not_reach_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_CHUNK_SIZE", "3")
    command = [
        sys.executable,
        "-c",
        "import os; print([n for n in os.environ if n.startswith('LOOKALIKE_')])",
    ]
    log = tmp_path / "log"
    with started(command, {"LOOKALIKE_PORT": "1"}, log, lambda pid: None if log.stat().st_size else "silent"):
        assert log.read_text().strip() == "['LOOKALIKE_PORT']"


def test_the_cpu_of_children_counts_while_they_live_and_after(tmp_path: Path) -> None:
    before = cpu_seconds(psutil.Process())
    with started(_WORK, {}, tmp_path / "log", lambda pid: None) as child:
        until(lambda: child.status() == psutil.STATUS_ZOMBIE, "it works for ever")
        living = cpu_seconds(psutil.Process()) - before
    ended = cpu_seconds(psutil.Process()) - before
    assert living >= 0.4
    assert ended >= 0.4


def test_a_sampler_looks_until_its_block_ends() -> None:
    values = iter(range(1000))
    with Sampler(lambda: next(values), seconds=0.01) as sampler:
        until(lambda: len(sampler.samples) >= 3, "it never looked")
    seen = len(sampler.samples)
    assert [value for _, value in sampler.samples] == list(range(seen))
    assert next(values) == seen

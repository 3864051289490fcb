"""workers/memory.py: what a worker takes, and what its container allows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import StartError
from shared.settings import Settings
from workers import memory
from workers.memory import MemoryGuard, taken_bytes

MIB = 2**20


def test_memory_of_children_counts() -> None:
    before = taken_bytes()
    hold = "x = bytearray(b'1') * (64 * 2**20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.readline()
        assert taken_bytes() > before + 60 * MIB
        child.communicate(b"\n")


def test_a_worker_over_its_limit_ends() -> None:
    # In a process of its own: of this one, what other tests leave may go at any moment.
    story = """
from shared.settings import Settings
from workers.memory import MemoryGuard, taken_bytes

guard = MemoryGuard(Settings(worker_memory_mib=taken_bytes() // 2**20 + 40), print)
guard.look()
print("nothing so far")
grown = bytearray(b"1") * (64 * 2**20)
guard.look()
"""
    told = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, check=True).stdout
    first, second = told.splitlines()
    assert first == "nothing so far"
    assert "LOOKALIKE_WORKER_MEMORY_MIB" in second


def test_a_worker_that_is_too_large_from_the_start_says_so() -> None:
    with pytest.raises(StartError, match="Raise LOOKALIKE_WORKER_MEMORY_MIB"):
        MemoryGuard(Settings(worker_memory_mib=10), lambda reason: None)


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/a/b", {"a/memory.max": "1000", "a/b/memory.max": "max"}, 800),
        ("0::/a/b", {"a/memory.max": "1000", "a/b/memory.max": "500"}, 400),
        ("0::/", {"memory.max": "1000"}, 800),
        ("4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "1000"}, 800),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/a", {}, None),
    ],
)
def test_a_container_limits_its_worker_to_four_fifths(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    membership: str,
    limits: dict[str, str],
    expected: int | None,
) -> None:
    groups = tmp_path / "cgroup"
    for name, limit in limits.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(limit + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    monkeypatch.setattr(memory, "_CGROUPS", groups)
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "membership")
    assert memory._share_of_container() == expected

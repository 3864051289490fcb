from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.child import ChildError, run_child

MODULE = """
import json, os
from benchmarks.child import read_order
order = read_order()
print("chatter")
print(json.dumps({"order": order, "threads": os.environ.get("OMP_NUM_THREADS"), "set": os.environ.get("SOME_SETTING")}))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "measurement.py"
    file.write_text(MODULE)
    return file


def test_a_child_gets_its_order_and_its_environment_and_not_our_threads(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    said = run_child("measurement", {"urls": ["one"]}, SOME_SETTING="yes")
    assert said == {"order": {"urls": ["one"]}, "threads": None, "set": "yes"}


def test_a_child_that_fails_says_why(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_text("raise SystemExit('no such picture')")
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    with pytest.raises(ChildError, match="no such picture"):
        run_child("measurement", {})


def test_a_child_is_the_same_python(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_text("import json, sys; print(json.dumps(sys.executable))")
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    assert run_child("measurement", {}) == sys.executable

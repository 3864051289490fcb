"""workers/drain.py: how the process is left. That chunks in hand may end is in test_app.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.running import ROOT

_LEAVES = """
import atexit, logging, sys
from workers.drain import leave

logging.basicConfig(stream=sys.stdout, format="%(message)s")
atexit.register(print, "torn down")
logging.warning("logged")
print("printed")
leave({code})
"""


@pytest.mark.parametrize(
    ("code", "status", "words"), [("None", 0, ""), ("1", 1, ""), ("'no model'", 1, "no model\n")]
)
def test_a_process_ends_as_by_exit_and_tears_nothing_down(code: str, status: int, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _LEAVES.format(code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "logged\nprinted\n", words)


def test_a_process_whose_errors_nobody_reads_ends_too() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _LEAVES.format(code="'no model'")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=writes,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writes)
    assert (ended.returncode, ended.stdout) == (1, "logged\nprinted\n")

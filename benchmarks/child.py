"""A measurement in a process of its own: its threads, its environment and its memory are nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from demo.stack import ROOT

# What a notebook does not set either; the worker sets its own.
_NOT_INHERITED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ChildError(Exception):
    """The process failed; the sentence has its last words."""


def run_child(module: str, order: Mapping[str, Any], **environment: str) -> Any:
    """`python -m module`, which reads `order` as JSON from stdin; the JSON on the last line of what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=inherited | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        said, complained = process.communicate(json.dumps(order))
    finally:
        process.kill()  # nothing where it has ended
        process.wait()
    if process.returncode != 0:
        raise ChildError(
            f"`python -m {module}` ended with {process.returncode}:\n{complained[-2000:].strip()}"
        )
    return json.loads(said.strip().rpartition("\n")[2])


def read_order() -> Any:
    """What `run_child` gave this process."""
    return json.load(sys.stdin)

"""workers/app.py: a worker that cannot start ends with a word, and never serves without its tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(pool: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers.app",
        "worker",
        "-P",
        pool,
        "-c",
        "1",
        "-Q",
        "ingest",
    ]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("pool", "wrong", "word"),
    [
        ("prefork", {}, "-P threads"),
        ("threads", {"LOOKALIKE_MODEL": "/no/such/folder"}, "/no/such/folder"),
        ("threads", {"QDRANT_URL": "http://127.0.0.1:99999"}, "cannot start"),
        ("threads", {}, "lookalike up"),
    ],
)
def test_a_worker_that_cannot_start_ends_with_a_word(
    redis_url: str, small_model: Path, pool: str, wrong: dict[str, str], word: str
) -> None:
    ended = start(pool, **({"REDIS_URL": redis_url, "LOOKALIKE_MODEL": str(small_model)} | wrong))
    assert ended.returncode != 0
    assert word in ended.stderr

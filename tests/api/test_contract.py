"""The running API against its own description, in requests that schemathesis makes up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.test_server import serving_over_tcp
from tests.system.stack import Stack

EXAMPLES = 40  # an operation
# Checks come from this file alone: on the command line they would overrule it.
# An item that cannot be used is accepted, and fails by itself: that is the contract of a submission. And an argument
# without a value (`?limit=`) is as good as none.
CONFIG = """
[checks]
enabled = false
not_a_server_error.enabled = {working}
negative_data_rejection.enabled = {working}
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_headers_conformance.enabled = true
response_schema_conformance.enabled = true
unsupported_method.enabled = true

[[operations]]
include-name = "POST /v1/collections/{{name}}/jobs"
[operations.checks]
negative_data_rejection.enabled = false

[[operations]]
include-method = "GET"
[operations.checks]
negative_data_rejection.enabled = false
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data", LOOKALIKE_RATE_LIMIT="", LOOKALIKE_FETCH_TIMEOUT="2")
    stack.start()
    yield stack
    assert stack.stop() == 0


def attack(url: str, folder: Path, phases: str, *, working: bool) -> None:
    """The same requests on every run. Where not all parts are `working`, 503 is a right answer."""
    (folder / "schemathesis.toml").write_text(CONFIG.format(working=str(working).lower()))
    # fmt: off
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
        "--phases", phases, "--max-examples", str(EXAMPLES),
        "--generation-deterministic", "--continue-on-failure",
        "--request-timeout", "60", "--warnings", "off", "--no-color",
    ]
    # fmt: on
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_answers_as_it_is_described(stack: Stack, tmp_path: Path) -> None:
    attack(stack.url, tmp_path, "examples,coverage,fuzzing,stateful", working=True)
    for part in ("api", "ingest-worker", "search-worker"):
        assert "Traceback" not in stack.log(part)


def test_without_workers_it_answers_as_it_is_described(redis_url: str, tmp_path: Path) -> None:
    with serving_over_tcp(redis_url, LOOKALIKE_RATE_LIMIT="", LOOKALIKE_ANSWER_SECONDS="0.01") as url:
        attack(url, tmp_path, "examples", working=False)

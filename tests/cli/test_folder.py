from __future__ import annotations

import os

import pytest

from cli.errors import Refused
from cli.folder import DataFolder, tail


@pytest.fixture
def folder(tmp_path):
    folder = DataFolder(tmp_path)
    yield folder
    os.close(folder.lock)


def test_one_owner_at_a_time(folder, tmp_path):
    folder.sign("http://127.0.0.1:1")
    with pytest.raises(Refused, match=f"process {os.getpid()} at http://127.0.0.1:1"):
        DataFolder(tmp_path)


def test_a_large_log_is_set_aside(folder):
    folder.log("api").write_bytes(b"x" * (10 * 2**20 + 1))
    assert folder.log("api").stat().st_size == 0
    assert (folder.path / "logs" / "api.log.1").stat().st_size > 10 * 2**20


def test_a_log_that_is_not_large_goes_on(folder):
    folder.log("api").write_text("yesterday\n")
    assert folder.log("api").read_text() == "yesterday\n"


def test_the_tail_is_what_was_written_since(folder):
    log = folder.log("api")
    log.write_text("yesterday\n" + "".join(f"line {number}\n" for number in range(30)))
    assert tail(log, len("yesterday\n")).splitlines() == [f"  | line {number}" for number in range(10, 30)]
    assert "it wrote nothing" in tail(log, log.stat().st_size)

"""workers/scratch.py: folders of one's own, and what killed workers left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.scratch import scratch

HOLDER = """
import time
from workers.scratch import scratch

with scratch() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def grow_old(folder: Path) -> None:
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))


def test_each_has_its_own_and_takes_it_along(temp: Path) -> None:
    with scratch() as one, scratch() as other:
        assert (list(one.iterdir()), one == other) == ([], False)
        (one / "a").write_bytes(b"a")
    assert list(temp.iterdir()) == []


def test_what_a_killed_worker_left_is_swept_and_what_a_living_one_has_is_not(temp: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    folder = Path(worker.stdout.readline().strip())
    (folder / "feed.csv").write_bytes(b"half of it")
    grow_old(folder)
    with scratch():
        assert (folder / "feed.csv").exists()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    with scratch() as own:
        assert list(temp.iterdir()) == [own]


def test_where_no_folder_can_be_locked_there_are_some_all_the_same_and_none_is_swept(
    temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", flock)  # as NFS has it for a folder
    with scratch() as one:
        grow_old(one)
        with scratch() as other:
            assert sorted(temp.iterdir()) == sorted([one, other])
    assert list(temp.iterdir()) == []


def test_one_that_was_made_this_moment_is_left_alone(temp: Path) -> None:
    newborn = temp / "lookalike-import-newborn"
    newborn.mkdir()
    with scratch():
        assert newborn.exists()


def test_only_folders_of_ours_are_swept(temp: Path) -> None:
    (temp / "elsewhere").mkdir()
    (temp / "elsewhere" / "a").write_bytes(b"a")
    (temp / "lookalike-import-link").symlink_to(temp / "elsewhere")
    (temp / "lookalike-import-file").write_bytes(b"a")
    for path in temp.iterdir():
        grow_old(path)
    with scratch():
        assert (temp / "elsewhere" / "a").exists()

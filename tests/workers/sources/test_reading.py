"""workers/sources/reading.py: a reading process, its limits, and its end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workers.sources.conftest import orders, read_apart, read_here, written
from workers.sources.reading import Reading


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """More than a pipe holds."""
    return written(tmp_path / "a.csv", ["url,a", *(f"http://a.example/{n},{'x' * 500}" for n in range(5000))])


def test_what_is_read_apart_is_what_is_read_here(feed: Path) -> None:
    assert read_apart(feed, url_column="url").items == read_here(feed, url_column="url").items


def test_orders_may_be_long_and_no_list_of_processes_shows_them(feed: Path) -> None:
    files = [f"https://a.example/{number}.csv?secret={'x' * 8000}" for number in range(1000)]
    given = orders(feed, url_column="url")
    long = given.model_copy(update={"source": given.source.model_copy(update={"files": files})})
    with Reading(long) as reading:
        assert next(iter(reading)).head.items
        assert not any("secret" in word for word in psutil.Process(reading.pid).cmdline())


def test_a_process_that_is_killed_is_told_from_one_that_ends(feed: Path) -> None:
    with Reading(orders(feed)) as reading:
        frames = iter(reading)
        next(frames)
        os.kill(reading.pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match="SIGKILL"):
            list(frames)


def test_a_process_that_cannot_go_on_is_quoted(tmp_path: Path) -> None:
    with (
        Reading(orders(tmp_path / "missing.csv")) as reading,
        pytest.raises(ChildProcessError, match=r"missing\.csv"),
    ):
        list(reading)


def test_a_reading_that_is_ended_from_elsewhere_just_ends(feed: Path) -> None:
    with Reading(orders(feed)) as reading:
        frames = iter(reading)
        next(frames)
        ending = threading.Thread(target=reading.end)
        ending.start()
        assert len(list(frames)) < 5000 // 64
        ending.join()


def test_nothing_is_left_behind(feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with Reading(orders(feed)) as reading:
        pid = reading.pid
        next(iter(reading))
        assert list((tmp_path / "tmp").iterdir())
    assert not psutil.pid_exists(pid)
    assert not list((tmp_path / "tmp").iterdir())


def test_it_knows_no_secrets_of_ours(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Reading(orders(feed)) as reading:
        next(iter(reading))
        told = psutil.Process(reading.pid).environ()
    assert not {"REDIS_URL", "HF_TOKEN"} & told.keys()
    assert told["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="only Linux limits a process's address space"
)
def test_a_bomb_ends_its_process_in_words_and_within_its_memory(tmp_path: Path) -> None:
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * (100 * 2**20)])
    pq.write_table(
        pa.table({"url": ["http://a.example/1"] * 2000, "a": bomb}),
        tmp_path / "bomb.parquet",
        compression="zstd",
    )
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    try:
        said = read_apart(tmp_path / "bomb.parquet", given={"memory_mib": 512}).error or ""
    except ChildProcessError as error:  # Arrow ends its process where it can do no better
        said = str(error)
    assert "LOOKALIKE_IMPORT_MEMORY_MIB" in said

"""workers/rows.py: a bounded number of pictures, in memory that processes share."""

from __future__ import annotations

import mmap
import sys
import threading
import time

import numpy as np
import pytest

from workers.decode import PixelShape
from workers.rows import Rows

SHAPE = PixelShape(2, 3)


def test_another_mapping_of_the_file_sees_what_stands_in_a_row() -> None:
    rows = Rows(4, SHAPE)
    row = rows.take()
    mmap.mmap(rows.file.fileno(), 0)[row * 18 : row * 18 + 18] = bytes(range(18))
    np.testing.assert_array_equal(rows.pixels(row), np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    rows.close()


def test_rows_are_each_their_own() -> None:
    rows = Rows(5, SHAPE)
    assert sorted(rows.take() for _ in range(5)) == [0, 1, 2, 3, 4]
    rows.close()


def test_whoever_finds_no_row_waits_for_one() -> None:
    rows = Rows(1, SHAPE)
    first = rows.take()
    taken: list[int] = []
    waiting = threading.Thread(target=lambda: taken.append(rows.take()))
    waiting.start()
    waiting.join(0.2)
    assert taken == []
    rows.give_back(first)
    waiting.join(10)
    assert taken == [first]
    rows.close()


def test_the_bulk_leaves_the_reserve_to_searches() -> None:
    rows = Rows(3, SHAPE, reserve=2)
    first = rows.take()
    taken: list[int] = []
    bulk = threading.Thread(target=lambda: taken.append(rows.take()))
    bulk.start()
    searches = [rows.take(urgent=True), rows.take(urgent=True)]
    bulk.join(0.2)
    assert taken == []
    for row in (first, *searches):
        rows.give_back(row)
    bulk.join(10)
    assert len(taken) == 1
    rows.close()


def test_a_reserve_of_all_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="none for the bulk"):
        Rows(2, SHAPE, reserve=2)


def test_the_bulk_is_let_in_in_bursts() -> None:
    rows = Rows(4, SHAPE)
    held = [rows.take() for _ in range(4)]
    taken: list[int] = []
    waiting = [threading.Thread(target=lambda: taken.append(rows.take())) for _ in range(2)]
    for thread in waiting:
        thread.start()
    rows.give_back(held.pop())
    waiting[0].join(0.2)
    assert taken == []
    rows.give_back(held.pop())
    for thread in waiting:
        thread.join(10)
    assert len(taken) == 2


def test_none_goes_before_those_that_wait() -> None:
    rows = Rows(4, SHAPE)
    held = [rows.take() for _ in range(4)]
    order: list[str] = []

    def take(name: str) -> None:
        rows.take()
        order.append(name)

    first = threading.Thread(target=take, args=("first",))
    first.start()
    while not rows._bulk_waits:
        time.sleep(0.001)
    rows.give_back(held.pop())  # one is free, and that is no burst yet
    second = threading.Thread(target=take, args=("second",))
    second.start()
    second.join(0.2)
    assert order == []
    rows.give_back(held.pop())
    first.join(10)
    second.join(10)
    assert sorted(order) == ["first", "second"]
    rows.close()


def test_searches_that_hold_rows_keep_the_bulk_out_no_longer_than_they_must() -> None:
    rows = Rows(6, SHAPE, reserve=2)
    searches = [rows.take(urgent=True) for _ in range(3)]
    bulk = rows.take()
    taken: list[int] = []
    waiting = threading.Thread(target=lambda: taken.append(rows.take()))
    waiting.start()
    while not rows._bulk_waits:
        time.sleep(0.001)
    rows.give_back(bulk)
    waiting.join(10)
    assert taken == [bulk]
    for row in searches:
        rows.give_back(row)
    rows.close()


@pytest.mark.skipif(sys.platform != "linux", reason="seals are Linux's")
def test_nobody_who_shares_the_memory_can_change_its_size() -> None:
    rows = Rows(4, SHAPE)
    for size in (0, 10_000):
        with pytest.raises(PermissionError):
            rows.file.truncate(size)
    rows.close()

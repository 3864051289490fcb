"""workers/batcher.py: full batches, searches first, and one bad picture harms no other."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from shared.contract import ModelCard
from shared.errors import FailureCode, ItemError, ModelBroken, OutOfMemory
from workers.batcher import Batcher
from workers.decode import PixelShape


class Gate:
    """An embedder whose passes wait at a gate, so that a test decides what lines up behind them."""

    card = ModelCard(name="gate", revision="1", preprocessing="none", dimension=1)
    shape = PixelShape(height=2, width=2)
    device = "cpu"

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        values = [int(picture.max()) for picture in pictures]
        self.batches.append(values)
        self.entered.release()
        self.open.wait(10)
        if 13 in values:
            raise ValueError("row 0 is not finite") if len(values) == 1 else RuntimeError("bad batch")
        return np.array([[value] for value in values], dtype=np.float32)


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def test_each_picture_gets_its_own_vector_from_many_threads() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, batch_size=8, threads=2)
    futures = {value: batcher.submit(picture(value)) for value in range(1, 101) if value != 13}
    assert all(future.result(10)[0] == value for value, future in futures.items())
    assert all(len(batch) <= 8 for batch in gate.batches)
    batcher.close()


def test_pictures_that_wait_share_a_pass() -> None:
    gate = Gate()
    batcher = Batcher(gate, batch_size=4, threads=1)
    first = batcher.submit(picture(1), urgent=True)
    gate.entered.acquire()
    rest = [batcher.submit(picture(value)) for value in range(2, 8)]
    gate.open.set()
    for future in (first, *rest):
        future.result(10)
    assert gate.batches == [[1], [2, 3, 4, 5], [6, 7]]
    batcher.close()


def test_a_search_overtakes_the_bulk() -> None:
    gate = Gate()
    batcher = Batcher(gate, batch_size=4, threads=1)
    batcher.submit(picture(1), urgent=True)
    gate.entered.acquire()
    bulk = [batcher.submit(picture(value)) for value in (2, 3, 4, 5)]
    search = batcher.submit(picture(9), urgent=True)
    gate.open.set()
    for future in (*bulk, search):
        future.result(10)
    assert gate.batches[1] == [9]
    batcher.close()


def test_a_picture_that_breaks_its_batch_fails_alone() -> None:
    gate = Gate()
    batcher = Batcher(gate, batch_size=8, threads=1)
    batcher.submit(picture(1), urgent=True)
    gate.entered.acquire()
    good = [batcher.submit(picture(value)) for value in (2, 3, 4)]
    bad = batcher.submit(picture(13))
    gate.open.set()
    assert [future.result(10)[0] for future in good] == [2, 3, 4]
    with pytest.raises(ItemError) as failed:
        bad.result(10)
    assert failed.value.code == FailureCode.DECODE_FAILED
    batcher.close()


def test_pixels_reach_the_model_where_they_stand() -> None:
    class Keeper(Gate):
        def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
            self.given = list(pictures)
            return np.ones((len(pictures), 1), dtype=np.float32)

    keeper = Keeper()
    batcher = Batcher(keeper, batch_size=4, threads=1)
    standing = picture(5)
    batcher.submit(standing).result(10)
    batcher.close()
    assert np.shares_memory(keeper.given[0], standing)


def test_closing_ends_the_line_first_and_then_takes_no_more() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, batch_size=2, threads=1)
    futures = [batcher.submit(picture(value)) for value in range(1, 6)]
    batcher.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError):
        batcher.submit(picture(1))


def test_many_idle_threads_outlive_a_trickle() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, batch_size=4, threads=64)
    for value in range(60):
        assert batcher.submit(picture(value % 10)).result(10)[0] == value % 10
        time.sleep(0.005)
    depths = [len(inspect.getouterframes(frame)) for frame in sys._current_frames().values()]
    assert max(depths) < 60
    batcher.close()


class Cramped(Gate):
    """A device with room for `room` pictures at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        vectors = super().embed(pictures)
        if len(pictures) > self._room:
            raise OutOfMemory(f"no memory for {len(pictures)}")
        return vectors


def test_a_batch_that_the_device_has_no_memory_for_is_halved_and_stays_so() -> None:
    gate = Cramped(room=3)
    batcher = Batcher(gate, batch_size=16, threads=1)
    batcher.submit(picture(1), urgent=True)
    gate.entered.acquire()
    futures = [batcher.submit(picture(value)) for value in range(20, 60)]
    gate.open.set()
    assert [future.result(10)[0] for future in futures] == list(range(20, 60))
    too_large = [len(batch) for batch in gate.batches if len(batch) > 3]
    assert too_large == [16, 8, 4]
    batcher.close()


def test_halved_batches_have_sizes_that_a_gpu_runs_without_padding() -> None:
    gate = Cramped(room=40)
    batcher = Batcher(gate, batch_size=100, threads=1)
    batcher.submit(picture(1), urgent=True)
    gate.entered.acquire()
    futures = [batcher.submit(picture(20 + value)) for value in range(100)]
    gate.open.set()
    assert [future.result(10)[0] for future in futures] == list(range(20, 120))
    assert [len(batch) for batch in gate.batches] == [1, 100, 32, 32, 32, 4]
    batcher.close()


def test_a_picture_that_the_device_has_no_memory_for_is_the_services_fault() -> None:
    gate = Cramped(room=0)
    gate.open.set()
    batcher = Batcher(gate, batch_size=4, threads=1)
    futures = [batcher.submit(picture(value)) for value in (1, 2, 3)]
    for future in futures:
        with pytest.raises(OutOfMemory):
            future.result(10)
    batcher.close()


def test_a_model_that_fails_on_any_picture_is_broken_and_no_pictures_fault() -> None:
    class Broken(Gate):
        def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
            raise RuntimeError("device-side assert triggered")

    batcher = Batcher(Broken(), batch_size=4, threads=1)
    futures = [batcher.submit(picture(value)) for value in (1, 2)]
    for future in futures:
        with pytest.raises(ModelBroken, match="device-side assert"):
            future.result(10)
    batcher.close()


def test_a_model_that_fails_on_one_picture_alone_is_not_broken() -> None:
    class Picky(Gate):
        def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
            if any(pixels.max() == 7 for pixels in pictures):
                raise RuntimeError("odd")
            return np.array([[pixels.max()] for pixels in pictures], dtype=np.float32)

    batcher = Batcher(Picky(), batch_size=4, threads=1)
    with pytest.raises(RuntimeError, match="odd"):
        batcher.submit(picture(7)).result(10)
    assert batcher.submit(picture(3)).result(10)[0] == 3
    batcher.close()

"""Many chunks' pictures → full batches for the model, searches first.

A forward pass costs least per image when its batch is full, so pictures of all chunks in flight share one line.
Each model thread runs passes of one CPU thread: two such passes beat one of two threads.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from shared.errors import FailureCode, ItemError, ModelBroken, OutOfMemory
from workers.embed import Embedder

log = logging.getLogger("lookalike.batcher")

# How long a pass waits for its batch to fill: little beside the pass itself, and searches never wait.
_LINGER_SECONDS = 0.02


@dataclass(frozen=True)
class _Waiting:
    pixels: np.ndarray
    vector: Future[np.ndarray] = field(default_factory=Future)


class Batcher:
    """The line before the model. `submit` is safe from any thread; what is in line is bounded by `workers.rows`."""

    def __init__(self, embedder: Embedder, *, batch_size: int, threads: int) -> None:
        self._embedder = embedder
        self._batch_size = batch_size
        self._urgent: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"model-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, pixels: np.ndarray, *, urgent: bool = False) -> Future[np.ndarray]:
        """Line up one picture, uint8[H, W, 3]; the future brings its vector, float32[D] of length 1.

        The future raises ItemError where the model has no finite vector for this picture, OutOfMemory where the
        device has no memory for even this one, ModelBroken where it fails on any picture, and whatever else the
        model raised where it failed on this picture alone. An urgent picture overtakes all others. The pixels are
        not copied: they must stand until the future is done.
        """
        waiting = _Waiting(pixels)
        with self._changed:
            if self._closed:
                raise RuntimeError("The worker is stopping.")
            (self._urgent if urgent else self._bulk).append(waiting)
            self._changed.notify_all()
        return waiting.vector

    def close(self) -> None:
        """End the model threads once the line is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._take():
            self._embed(batch)

    def _take(self) -> list[_Waiting]:
        """The next batch; empty once the batcher is closed and the line is empty."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._urgent or self._bulk or self._closed)
                self._changed.wait_for(self._is_worth_a_pass, timeout=_LINGER_SECONDS)
                # A search's pass stays small; the bulk waits for the next one.
                line = self._urgent or self._bulk
                batch = [line.popleft() for _ in range(min(len(line), self._batch_size))]
                if batch or self._closed:  # else another model thread was quicker
                    return batch

    def _is_worth_a_pass(self) -> bool:
        return bool(self._urgent) or len(self._bulk) >= self._batch_size or self._closed

    def _embed(self, batch: list[_Waiting]) -> None:
        """Give every picture its vector. A batch that fails is halved until the one at fault stands alone."""
        try:
            vectors = self._embedder.embed([waiting.pixels for waiting in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].vector.set_exception(self._fault_of_one(error))
                return
            half = 1 << (((len(batch) + 1) // 2).bit_length() - 1)  # a size that a GPU runs without padding
            if isinstance(error, OutOfMemory):
                self._keep_batches_to(half)
        else:
            for waiting, vector in zip(batch, vectors, strict=True):
                waiting.vector.set_result(vector)
            return
        # Here and not in the handler: what failed must let go of its memory first.
        while batch:
            size = min(half, self._batch_size)  # the first part may find less memory still
            self._embed(batch[:size])
            batch = batch[size:]

    def _fault_of_one(self, error: Exception) -> Exception:
        """Whose fault it is that there is no vector: the picture's, the device's memory, or the whole model's.

        After some errors (CUDA's are sticky) every pass fails: then a black picture fails too.
        """
        if isinstance(error, ValueError):
            return ItemError(FailureCode.DECODE_FAILED, f"The model has no vector for this picture: {error}")
        if isinstance(error, OutOfMemory):
            return error
        shape = self._embedder.shape
        try:
            self._embedder.embed([np.zeros((shape.height, shape.width, 3), np.uint8)])
        except Exception as second:
            return ModelBroken(f"The model answers nothing any more: {second}")
        return error

    def _keep_batches_to(self, size: int) -> None:
        """From now on: a size that the device had no memory for is not tried again."""
        with self._changed:
            if size >= self._batch_size:
                return
            self._batch_size = size
        log.warning("the device has no memory for larger batches: they are of %d pictures from now on", size)

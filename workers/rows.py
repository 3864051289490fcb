"""Memory for decoded pictures, shared with the processes that decode them.

A picture's pixels are written here once, by its decoding process, and read here once, into the model's batch. How
many rows there are bounds what waits for the model.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import threading
from typing import BinaryIO

import numpy as np

from workers.decode import PixelShape


class Rows:
    """`count` rows of one picture's pixels each, uint8 [height, width, 3]. Safe from any thread.

    `reserve` of them are for urgent pictures, which so never wait for the bulk.
    """

    def __init__(self, count: int, shape: PixelShape, *, reserve: int = 0) -> None:
        if count <= reserve:
            raise ValueError(f"{count} rows with {reserve} in reserve leave none for the bulk.")
        size = pixel_bytes(shape)
        self.file = memory_file(count * size)
        memory = mmap.mmap(self.file.fileno(), 0)
        self._pixels = np.frombuffer(memory, np.uint8).reshape(count, shape.height, shape.width, 3)
        self._free = list(range(count))
        self._reserve = reserve
        # The bulk is let in when half of its rows are free: each switch between decoding and the model costs both of
        # them the processor's caches, so there shall be few.
        self._burst = (count + reserve + 1) // 2
        lock = threading.Lock()
        self._urgent, self._bulk = threading.Condition(lock), threading.Condition(lock)

    def take(self, *, urgent: bool = False) -> int:
        """The number of a free row; waits for one."""
        line, kept = (self._urgent, 0) if urgent else (self._bulk, self._reserve)
        with line:
            line.wait_for(lambda: len(self._free) > kept)
            return self._free.pop()  # the last one used, which the processor's cache may still hold

    def give_back(self, row: int) -> None:
        """Whoever reads its pixels is done with them."""
        with self._bulk:  # both lines have one lock
            self._free.append(row)
            self._urgent.notify()
            if len(self._free) >= self._burst:
                self._bulk.notify_all()

    def pixels(self, row: int) -> np.ndarray:
        """What stands in a row, not a copy."""
        return self._pixels[row]

    def close(self) -> None:
        """Let the memory go once nobody reads its pixels any more."""
        self._pixels = self._pixels[:0]
        self.file.close()


def pixel_bytes(shape: PixelShape) -> int:
    return shape.height * shape.width * 3


def memory_file(size: int) -> BinaryIO:
    """A file of zeros without a name, in memory where the system can do it."""
    if sys.platform == "linux":
        file: BinaryIO = os.fdopen(os.memfd_create("lookalike"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    file.truncate(size)
    return file

"""Memory for decoded pictures, shared with the processes that decode them.

A picture's pixels are written here once, by its decoding process, and read here once, into the model's batch. How
many rows there are bounds what waits for the model.
"""

from __future__ import annotations

import fcntl
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
        # The bulk that waits is let in when half of its rows are free: each switch between decoding and the model
        # costs both of them the processor's caches, so there shall be few.
        self._burst = (count - reserve) // 2
        self._bulk_rows: set[int] = set()
        self._bulk_waits = 0
        lock = threading.Lock()
        self._urgent, self._bulk = threading.Condition(lock), threading.Condition(lock)

    def take(self, *, urgent: bool = False) -> int:
        """The number of a free row; waits for one."""
        if urgent:
            with self._urgent:
                self._urgent.wait_for(lambda: self._free)
                return self._free.pop()
        with self._bulk:
            if self._bulk_waits or not self._has_room():  # none goes before those that wait
                self._bulk_waits += 1
                self._bulk.wait()
                self._bulk.wait_for(self._has_room)
                self._bulk_waits -= 1
            row = self._free.pop()  # the last one used, which the processor's cache may still hold
            self._bulk_rows.add(row)
            return row

    def _has_room(self) -> bool:
        return len(self._free) > self._reserve

    def give_back(self, row: int) -> None:
        """Whoever reads its pixels is done with them."""
        with self._bulk:  # both lines have one lock
            self._free.append(row)
            self._bulk_rows.discard(row)
            self._urgent.notify()
            if len(self._bulk_rows) <= self._burst and self._has_room():
                self._bulk.notify_all()

    def pixels(self, row: int) -> np.ndarray:
        """What stands in a row, not a copy."""
        return self._pixels[row]

    @property
    def memory(self) -> int:
        """Bytes of all rows."""
        return self._pixels.nbytes

    def close(self) -> None:
        """Let the memory go once nobody reads its pixels any more."""
        self._pixels = np.empty((0, *self._pixels.shape[1:]), np.uint8)
        self.file.close()


def pixel_bytes(shape: PixelShape) -> int:
    return shape.height * shape.width * 3


def memory_file(size: int) -> BinaryIO:
    """A file of zeros without a name, in memory where the system can do it; of 0 zeros, one that grows.

    Nobody who shares it can change the size of any other: whoever then read past its end would die.
    """
    if sys.platform != "linux":
        file: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        file.truncate(size)
        return file
    file = os.fdopen(os.memfd_create("lookalike", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0)
    if size:
        file.truncate(size)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return file

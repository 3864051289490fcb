"""A network's forward on a device of its own memory: CUDA or Metal."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from workers.embed.network import Network, plain
from workers.embed.normalise import Normaliser

_LEAST_RUNG = 8  # below it a device takes as long as for so many


class StagedForward:
    """Features of pictures, in batches of few fixed shapes, so that kernels are chosen and memory is laid out once.

    On CUDA a batch waits for its copies and its kernels on a stream of the calling thread, so one thread's copies run
    beside another's kernels; elsewhere batches take turns. Bytes are copied, a quarter of the floats, and normalised
    on the device.
    """

    def __init__(self, network: Network, device: str, dtype: torch.dtype, largest: int) -> None:
        module = copy.deepcopy(network.module).eval().requires_grad_(False)
        self._module = plain(module, dtype).to(device)
        self._features = network.features
        self._size = (network.shape.height, network.shape.width, 3)
        self._normalise = Normaliser(network, device)
        self._device = device
        self._on_cuda = device == "cuda"
        self._dtype = dtype
        self.ladder = ladder(largest)
        self.sizes = sorted({1, largest})  # of the batches that warm it
        self._thread = threading.local()
        # Metal aborts the process where two threads use it at once.
        self._turn: AbstractContextManager[object] = nullcontext() if self._on_cuda else threading.Lock()
        if self._on_cuda:
            torch.cuda.synchronize()  # other streams read what this one has written

    def __call__(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """uint8 [H, W, 3] each -> float32 [B, D], on the CPU."""
        largest = self.ladder[-1]
        parts = (pictures[start : start + largest] for start in range(0, len(pictures), largest))
        return torch.cat([self._in_turn(part) for part in parts])

    def _in_turn(self, pictures: Sequence[np.ndarray]) -> Tensor:
        with self._turn:
            return self._batch(pictures)

    def _batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Padded to the next rung by what stood in the staging memory before; what becomes of it is cut off."""
        rung = next(size for size in self.ladder if size >= len(pictures))
        lane = self._lane()
        staged = lane.staging[:rung]
        for picture, row in zip(pictures, staged.numpy(), strict=False):
            row[:] = picture
        with lane.stream():
            features = self._compute(staged.to(self._device, non_blocking=self._on_cuda))
            vectors = features[: len(pictures)].to("cpu", non_blocking=self._on_cuda)
        lane.wait()
        return vectors

    def _compute(self, pixels: Tensor) -> Tensor:
        levels = pixels.float()
        self._normalise(levels, out=levels)
        batch = levels.to(self._dtype).permute(0, 3, 1, 2)  # channels last
        return self._features(self._module, batch).float()

    def _lane(self) -> _Lane:
        if not hasattr(self._thread, "lane"):
            self._thread.lane = _Lane((self.ladder[-1], *self._size), on_cuda=self._on_cuda)
        lane: _Lane = self._thread.lane
        return lane


class _Lane:
    """One thread's way to the device: memory that the device reads by itself, and a stream."""

    def __init__(self, shape: tuple[int, ...], *, on_cuda: bool) -> None:
        self.staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=on_cuda)
        self._stream = torch.cuda.Stream() if on_cuda else None
        self._done = torch.cuda.Event(blocking=True) if on_cuda else None  # its waiters sleep

    def stream(self) -> AbstractContextManager[None]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def wait(self) -> None:
        """Until all that was asked of the stream is done; elsewhere than on CUDA it is already."""
        if self._done is not None:
            self._done.record(self._stream)
            self._done.synchronize()


def ladder(largest: int) -> list[int]:
    """The batch sizes that are run: one picture, and powers of two up to the largest batch."""
    rungs, rung = {1, largest}, _LEAST_RUNG
    while rung < largest:
        rungs.add(rung)
        rung *= 2
    return sorted(rungs)

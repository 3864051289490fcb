"""A network on a device, ready to embed from any thread."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Protocol

import numpy as np
import torch

from shared.contract import ModelCard
from shared.errors import OutOfMemory
from workers.decode import PixelShape
from workers.embed.batch import check_pictures, check_vectors, out_of_memory
from workers.embed.host import PASS, HostForward
from workers.embed.network import Network
from workers.embed.probe import probe
from workers.embed.staged import StagedForward
from workers.embed.text import TextSide
from workers.embed.threads import one_torch_thread

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")

_log = logging.getLogger("lookalike.embed")


class Embedder(Protocol):
    """A model that is ready to run, from several threads at once. `memory` is that of its weights, in bytes."""

    card: ModelCard
    shape: PixelShape
    device: str
    memory: int
    text: TextSide | None

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures, uint8 [H, W, 3] RGB of `shape` each -> float32 [B, D], each row of length 1.

        ValueError where there is none or one of another shape, and where a vector is not finite: it names
        the rows. OutOfMemory where the device has no memory for this many. The pixels are read before it
        returns, and none are kept.
        """
        ...


class TorchEmbedder:
    """The Embedder of a network, in the number format `dtype`. Construction runs it, which warms it.

    `lean` computes on a CPU as quickly as torch can, else as the network's authors wrote it. `batch_size` bounds the
    batches of a GPU; on a CPU four pictures pass at a time whatever their number.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        device: str,
        dtype: torch.dtype,
        *,
        lean: bool = False,
        batch_size: int = PASS,
    ) -> None:
        one_torch_thread()
        self.shape = network.shape
        self.device = device
        self.dtype = dtype
        self.memory = network.memory
        self.text = network.text
        self._forward: HostForward | StagedForward
        if device == "cpu":
            self._forward = HostForward(network, dtype, lean=lean)
        else:
            self._forward = StagedForward(network, device, dtype, batch_size or PASS)
        self.card = ModelCard(
            name=name,
            revision=network.revision,
            preprocessing=f"{network.shape}/{network.pooling}",
            dimension=self._warm(),
        )

    def _warm(self) -> int:
        """Embed batches of the sizes that matter; the vectors' dimension."""
        pictures = probe(self.shape)
        least, *larger = self._forward.sizes
        dimension: int = self.embed(list(islice(cycle(pictures), least))).shape[1]
        for size in larger:
            try:
                self.embed(list(islice(cycle(pictures), size)))
            except OutOfMemory as error:  # the batcher halves its batches until they fit
                _log.warning("batches of %d are too large: %s", size, error.detail)
        _free_cache(self.device)  # it is this thread's stream's, and other threads compute
        return dimension

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See Embedder."""
        check_pictures(pictures, self.shape)
        one_torch_thread()
        vectors = self._vectors(pictures)
        if vectors is None:
            _free_cache(self.device)
            raise out_of_memory(self.device, len(pictures))
        check_vectors(vectors)
        return vectors

    def _vectors(self, pictures: Sequence[np.ndarray]) -> np.ndarray | None:
        """None where memory ran out. Not an exception: that would hold on to the memory of the frames it crossed."""
        try:
            with torch.inference_mode():
                features = self._forward(pictures)
                return (features / features.norm(dim=1, keepdim=True)).numpy()
        except RuntimeError as error:
            if _is_out_of_memory(error):
                return None
            raise


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it; Metal and the CPU's allocator only say so."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in _OUT_OF_MEMORY)


def _free_cache(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()

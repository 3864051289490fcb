"""A network on a device, ready to embed from any thread."""

from __future__ import annotations

import copy
import logging
import threading
from typing import Protocol

import numpy as np
import torch

from shared.contract import ModelCard
from shared.errors import OutOfMemory, StartError
from shared.settings import Settings
from workers.decode import PixelShape
from workers.embed import lite2
from workers.embed.network import Network
from workers.embed.transformer import transformer

# Least cosine of bf16 to fp32 vectors of the probe. Photographs strayed up to ten times as far, and theirs must
# stay above 0.999: EfficientNet-Lite2 fails this (0.996 on photographs), ViTs pass with 0.99998.
_LEAST_AGREEMENT = 0.9999

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")

_log = logging.getLogger("lookalike.embed")
_thread = threading.local()


class Embedder(Protocol):
    """A model that is ready to run, from several threads at once."""

    card: ModelCard
    shape: PixelShape
    device: str

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB of `shape` -> float32 [B, D], each row of length 1.

        ValueError where the batch is empty or of another shape, and where a vector is not finite: it names
        the rows. OutOfMemory where the device has no memory for this many.
        """
        ...


class TorchEmbedder:
    """The Embedder of a network, in the number format `dtype`. Construction runs it once, which warms it."""

    def __init__(self, name: str, network: Network, device: str, dtype: torch.dtype) -> None:
        self.shape = network.shape
        self.device = device
        self.dtype = dtype
        self._features = network.features
        module = copy.deepcopy(network.module).eval().requires_grad_(False)
        self._module = module.to(device=device, dtype=dtype, memory_format=torch.channels_last)
        self._mean = torch.tensor(network.mean, dtype=torch.float32, device=device)
        self._std = torch.tensor(network.std, dtype=torch.float32, device=device)
        self.card = ModelCard(
            name=name,
            revision=network.revision,
            preprocessing=f"{network.shape}/{network.pooling}",
            dimension=self.embed(_probe(network.shape)).shape[1],
        )

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """See Embedder."""
        pixels = np.asarray(pixels)
        wanted = (self.shape.height, self.shape.width, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted or len(pixels) == 0:
            raise ValueError(f"A batch is uint8 [1 or more, {wanted}], not {pixels.dtype} {pixels.shape}.")
        _one_torch_thread()
        vectors = self._forward(pixels)
        if vectors is None:
            _free_cache(self.device)
            raise OutOfMemory(
                f"The model has no memory on {self.device} for {len(pixels)} pictures at once. Lower "
                "LOOKALIKE_BATCH_SIZE, or give the device more memory or fewer other users."
            )
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
        if broken:
            raise ValueError(f"The model gave no finite vector for the rows {broken} of the batch.")
        return vectors

    def _forward(self, pixels: np.ndarray) -> np.ndarray | None:
        """None where memory ran out. Not an exception: that would hold on to the memory of the frames it crossed."""
        try:
            with torch.inference_mode():
                levels = torch.tensor(pixels).to(self.device).float()
                batch = (
                    ((levels - self._mean) / self._std).to(self.dtype).permute(0, 3, 1, 2)
                )  # channels last
                features = self._features(self._module, batch).float()
                return (features / features.norm(dim=1, keepdim=True)).cpu().numpy()
        except RuntimeError as error:
            if _is_out_of_memory(error):
                return None
            raise


def load_embedder(settings: Settings) -> Embedder:
    """The model that the settings name, warm. StartError says what to change where it cannot run."""
    _one_torch_thread()
    device = _device(settings.device)
    network = lite2.lite2() if settings.model == lite2.NAME else transformer(settings)
    embedder = _fastest(settings.model, network, device)
    _log.info(
        "model %s (%d dimensions) on %s in %s, one CPU thread a forward",
        embedder.card.fingerprint,
        embedder.card.dimension,
        device,
        embedder.dtype,
    )
    return embedder


def _device(asked: str) -> str:
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(device for device, there in present.items() if there)
    if not present[asked]:
        raise StartError(
            f"LOOKALIKE_DEVICE asks for {asked}, and torch {torch.__version__} finds none on this machine. "
            "Install a driver and a torch build for it, or set LOOKALIKE_DEVICE to auto or cpu."
        )
    return asked


def _fastest(name: str, network: Network, device: str) -> TorchEmbedder:
    """In bf16 where the hardware multiplies it natively and the model bears it, else in fp32."""
    try:
        exact = TorchEmbedder(name, network, device, torch.float32)
    except Exception as error:
        raise StartError(f"The model {name} loads but cannot embed a picture on {device}: {error}") from error
    if not _multiplies_bf16(device):
        return exact
    fast = TorchEmbedder(name, network, device, torch.bfloat16)
    probe = _probe(network.shape)
    agreement = float((exact.embed(probe) * fast.embed(probe)).sum(axis=1).min())
    _log.info("bf16 vectors agree with fp32 to a cosine of %.5f", agreement)
    return fast if agreement >= _LEAST_AGREEMENT else exact


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu = torch.cpu.get_capabilities()
    return device == "cpu" and bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


def _probe(shape: PixelShape) -> np.ndarray:
    """Two pictures, always the same: waves with some grain."""
    y, x = np.mgrid[0 : shape.height, 0 : shape.width]
    waves = np.stack([np.sin(x / period + y / (2 * period)) for period in (9, 17, 31)], axis=-1)
    grain = np.random.default_rng(0).normal(0, 8, (2, *waves.shape))
    return (128 + 90 * waves + grain).clip(0, 255).astype(np.uint8)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it; Metal and the CPU's allocator only say so."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in _OUT_OF_MEMORY)


def _free_cache(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def _one_torch_thread() -> None:
    """Two forwards of one thread each beat one of two. Torch keeps the number for each calling thread."""
    if not getattr(_thread, "is_set", False):
        torch.set_num_threads(1)
        _thread.is_set = True

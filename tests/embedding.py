"""What tests of models share: pictures, and how an embedder sees them."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.settings import Settings
from workers.decode import decode
from workers.embed import Embedder
from workers.embed.choice import _multiplies_bf16
from workers.embed.embedder import TorchEmbedder
from workers.embed.transformer import transformer

# By what is installed, not by what can be imported: a test of something installed and broken must fail.
with_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed (the extra `openvino`)"
)
with_bf16 = pytest.mark.skipif(not _multiplies_bf16("cpu"), reason="this processor does not multiply bf16")
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=with_bf16)], ids=["fp32", "bf16"]
)


# What an embedder of 64 x 64 pictures refuses.
WRONG_BATCHES = {
    "empty": np.zeros((0, 64, 64, 3), np.uint8),
    "no batch": np.zeros((64, 64, 3), np.uint8),
    "another size": np.zeros((1, 64, 32, 3), np.uint8),
    "channels first": np.zeros((1, 3, 64, 64), np.uint8),
    "floats": np.zeros((1, 64, 64, 3), np.float32),
    "two sizes": [np.zeros((64, 64, 3), np.uint8), np.zeros((64, 32, 3), np.uint8)],
}


def settings(model: Path | str, **others: object) -> Settings:
    return Settings(**{"model": str(model), "runtime": "torch", **others})  # type: ignore[arg-type]


def exact(model: Path | str, **others: object) -> TorchEmbedder:
    """The embedder of a folder's model in plain fp32, whatever this machine can do."""
    return TorchEmbedder("exact", transformer(settings(model, **others)), "cpu", torch.float32)


def texture(seed: int, width: int = 400, height: int = 320) -> Image.Image:
    """Waves of the seed's own fineness and colours, under as many discs as the seed likes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    depth, level = rng.uniform(10, 120, 3), rng.uniform(30, 220, 3)
    period, angle = np.exp(rng.uniform(1.5, 5)), rng.uniform(0, np.pi)
    picture = level + depth * np.sin((x * np.cos(angle) + y * np.sin(angle)) / period)[..., None]
    size = rng.uniform(5, 80)
    for _ in range(rng.integers(0, 40)):
        centre = rng.uniform(0, [width, height])
        picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < size**2] = rng.uniform(0, 255, 3)
    return Image.fromarray((picture + rng.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, **{"format": "PNG", **options})  # type: ignore[arg-type]
    return file.getvalue()


def embed(embedder: Embedder, *files: bytes) -> np.ndarray:
    return embedder.embed(np.stack([decode(data, embedder.shape, 10**8).pixels for data in files]))


def noise(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    """uint8 [count, side, side, 3]"""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)

"""A ViT-S/16 with random weights, made once and then loaded by path by everything that is compared."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

_IMAGENET_MEAN = [0.485, 0.456, 0.406]
_IMAGENET_STD = [0.229, 0.224, 0.225]
_SEED = 0
_SPREAD = (
    0.08  # at transformers' own 0.02 all pictures' vectors would be alike, and neighbours would mean nothing
)


def ensure_vit(cache: Path) -> Path:
    """The folder of the model (384 wide, 12 layers, 6 heads, 224 px) and its processor, made the first time."""
    folder = cache / "vit-s16"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=cache, prefix="vit-"))
        try:
            make_vit(part, hidden=384, layers=12, heads=6, side=224)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def make_vit(folder: Path, *, hidden: int, layers: int, heads: int, side: int) -> None:
    """Save a random ViT with 16 px patches, the same at each call, as safetensors with its processor."""
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        image_size=side,
        patch_size=16,
        initializer_range=_SPREAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor = ViTImageProcessorPil(
        size={"height": side, "width": side}, image_mean=_IMAGENET_MEAN, image_std=_IMAGENET_STD
    )
    processor.save_pretrained(folder)

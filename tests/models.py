"""A model small enough to make in a test: real files that the real loader reads."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


def make_vit(folder: Path, *, seed: int = 0, side: int = 64, hidden: int = 48) -> Path:
    """A random ViT of two layers for `side` x `side` pictures, saved as safetensors with its processor."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=2 * hidden,
        image_size=side,
        patch_size=16,
        initializer_range=0.2,  # far apart enough for neighbours to mean something
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor = ViTImageProcessorPil(
        size={"height": side, "width": side}, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    processor.save_pretrained(folder)
    return folder

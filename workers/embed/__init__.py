"""Pixels to unit vectors. The one package that knows torch and transformers."""

from workers.embed.choice import choose_device, load_embedder
from workers.embed.embedder import Embedder

__all__ = ["Embedder", "choose_device", "load_embedder"]

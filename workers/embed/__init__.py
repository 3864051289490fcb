"""Pixels to unit vectors. The one package that knows torch and transformers."""

from workers.embed.choice import choose_device, load_embedder
from workers.embed.embedder import Embedder
from workers.embed.origin import is_on_hub, newest

__all__ = ["Embedder", "choose_device", "is_on_hub", "load_embedder", "newest"]

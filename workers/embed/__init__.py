"""Pixels to unit vectors. The one package that knows torch and transformers."""

from workers.embed.embedder import Embedder, load_embedder

__all__ = ["Embedder", "load_embedder"]

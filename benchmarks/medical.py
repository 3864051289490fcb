"""The medical notebook's way, as people run it: everything inside `datasets.map`, then upserts of 1,000.

    python -m benchmarks.medical

torch has its default threads and fp32, transformers' processor prepares batches of 16, and the mean over a picture's
tokens is its vector. Local files are read, so this way is spared the downloads. Loading the model is not counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset, Image, disable_progress_bars
from qdrant_client import QdrantClient
from qdrant_client.models import Batch, Distance, VectorParams
from transformers import ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from benchmarks.child import read_order

_BATCH = 16
_UPSERT = 1000


def run(files: Sequence[str], model: str, qdrant: str, collection: str) -> float:
    """Seconds from the file names to the last vector that stands in Qdrant."""
    disable_progress_bars()
    network = ViTModel.from_pretrained(model, add_pooling_layer=False).eval()
    processor = ViTImageProcessorPil.from_pretrained(model)
    client = QdrantClient(url=qdrant, check_compatibility=False)
    create_collection(client, collection, network.config.hidden_size)

    def embed(batch: dict[str, Any]) -> dict[str, Any]:
        inputs = processor(images=batch["image"], return_tensors="pt")
        with torch.no_grad():
            tokens = network(**inputs).last_hidden_state
        return {"embeddings": tokens.mean(dim=1).numpy()}

    begun = time.monotonic()
    pictures = Dataset.from_dict({"image": list(files)}).cast_column("image", Image())
    # A fingerprint of our own spares it the hashing of the whole model, once a run.
    embedded = pictures.map(
        embed, batched=True, batch_size=_BATCH, remove_columns=["image"], new_fingerprint=collection
    )
    vectors = embedded["embeddings"][:]
    for start in range(0, len(vectors), _UPSERT):
        part = vectors[start : start + _UPSERT]
        ids = list(range(start, start + len(part)))
        payloads = [{"file": files[id]} for id in ids]
        client.upsert(collection, points=Batch(ids=ids, vectors=part, payloads=payloads))  # type: ignore[arg-type]
    return time.monotonic() - begun


def create_collection(client: QdrantClient, name: str, dimension: int) -> None:
    """An empty collection for cosine."""
    client.create_collection(name, vectors_config=VectorParams(size=dimension, distance=Distance.COSINE))


if __name__ == "__main__":
    print(json.dumps(run(**read_order())))

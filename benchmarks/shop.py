"""The shop notebook's way, as people run it: download one, embed one, the next; an upload at the end.

    python -m benchmarks.shop

torch has its default threads and fp32. Loading the model is not counted.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from qdrant_client import QdrantClient
from qdrant_client.models import PointStruct
from transformers import ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from benchmarks.child import read_order
from benchmarks.medical import create_collection


def run(urls: Sequence[str], model: str, qdrant: str, collection: str) -> float:
    """Seconds from the URLs to the last vector that stands in Qdrant."""
    network = ViTModel.from_pretrained(model, add_pooling_layer=False).eval()
    processor = ViTImageProcessorPil.from_pretrained(model)
    client = QdrantClient(url=qdrant, check_compatibility=False)
    create_collection(client, collection, network.config.hidden_size)
    begun = time.monotonic()
    points = []
    for number, url in enumerate(urls):
        with urllib.request.urlopen(url) as answer:
            picture = Image.open(BytesIO(answer.read()))
        inputs = processor(images=picture, return_tensors="pt")
        with torch.no_grad():
            vector = network(**inputs).last_hidden_state.mean(dim=1)[0]
        points.append(PointStruct(id=number, vector=vector.tolist(), payload={"url": url}))
    client.upload_points(collection, points, wait=True)
    return time.monotonic() - begun


if __name__ == "__main__":
    print(json.dumps(run(**read_order())))

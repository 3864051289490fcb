"""How near a worker's vectors are to the notebooks' fp32 ones, from the same pixels of real photographs.

python -m benchmarks.agreement
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from benchmarks.child import read_order, run_child
from benchmarks.variants import Variant
from shared.settings import Settings
from workers.decode import decode
from workers.embed import load_embedder
from workers.embed.agreement import compare

_BATCH = 16


@dataclass(frozen=True)
class Agreement:
    """`cosine`: the least over all pictures, of vectors less their fp32 mean: plain cosines hide differences, for
    all vectors of such a model point one way. `neighbours`: the share of the ten nearest that is the same.
    """

    cosine: float
    neighbours: float


def agreement(way: Variant, model: Path, files: Sequence[Path]) -> Agreement:
    """Of the model computed this way, with itself in fp32 by transformers."""
    order = {"files": [str(file) for file in files], "model": str(model)}
    return Agreement(**run_child("benchmarks.agreement", order, **way.environment))


def _compare_here(files: Sequence[str], model: str) -> Agreement:
    settings = Settings()
    embedder = load_embedder(settings)
    pictures = [decode(Path(file).read_bytes(), embedder.shape, settings.max_pixels).pixels for file in files]
    batches = [np.stack(pictures[start : start + _BATCH]) for start in range(0, len(pictures), _BATCH)]
    vectors = np.concatenate([embedder.embed(list(batch)) for batch in batches])
    found = compare(vectors, np.concatenate(_exact(batches, model)))
    return Agreement(float(found.centred.min()), float(found.neighbours.mean()))


def _exact(batches: Sequence[np.ndarray], model: str) -> list[np.ndarray]:
    network = ViTModel.from_pretrained(model, add_pooling_layer=False).eval()
    processor = ViTImageProcessorPil.from_pretrained(model)
    vectors = []
    for batch in batches:
        with torch.no_grad():
            means = network(**processor(images=list(batch), return_tensors="pt")).last_hidden_state.mean(
                dim=1
            )
        vectors.append(torch.nn.functional.normalize(means).numpy())
    return vectors


if __name__ == "__main__":
    print(json.dumps(vars(_compare_here(**read_order()))))

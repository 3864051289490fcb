"""The text side of a model of two towers: words to vectors that its pictures are compared with."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workers.embed.batch import check_vectors
from workers.embed.threads import one_torch_thread

# Texts in one pass: more are no quicker each, and their activations would be memory without a bound.
_PASS = 16


class TextSide:
    """A text tower in fp32 with its tokenizer. Safe from any thread.

    `padding` is the tokenizer's: True fills up to the longest text of a pass, "max_length" to `most_tokens`.
    """

    def __init__(
        self,
        tower: nn.Module,
        projection: nn.Module,
        tokenizer: Any,
        *,
        most_tokens: int,
        padding: bool | str,
        lower: bool,
    ) -> None:
        self._tower = tower
        self._projection = projection
        self._tokenizer = tokenizer
        self._options = {
            "padding": padding,
            "truncation": True,
            "max_length": most_tokens,
            "return_tensors": "pt",
        }
        self._lower = lower
        self._lock = threading.Lock()  # a tokenizer changes itself where it cuts and pads

    def parameters(self) -> Iterator[Tensor]:
        """Its weights."""
        yield from self._tower.parameters()
        yield from self._projection.parameters()

    def move(self, device: str) -> None:
        """Compute there from now on."""
        self._tower.to(device)
        self._projection.to(device)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One or more texts -> float32 [B, D], each row of length 1. What is longer than the model reads is cut.

        ValueError where there is none, or where a vector is not finite.
        """
        if not texts:
            raise ValueError("There is no text to embed.")
        one_torch_thread()
        with torch.inference_mode():
            passes = [self._pass(texts[start : start + _PASS]) for start in range(0, len(texts), _PASS)]
            features = torch.cat(passes)
            vectors = (features / features.norm(dim=1, keepdim=True)).cpu().numpy()
        check_vectors(vectors)
        return vectors

    def _pass(self, texts: Sequence[str]) -> Tensor:
        given = [text.lower() for text in texts] if self._lower else list(texts)
        with self._lock:
            tokens = self._tokenizer(given, **self._options)
        return self._projection(self._tower(**tokens.to(self._tower.device)).pooler_output)


def take_text_side(module: nn.Module, tokenizer: Any) -> TextSide:
    """The text side of a CLIP or SigLIP of transformers, taken out of it: nobody needs it beside the pictures.

    ValueError where the tokenizer is another model's.
    """
    config = module.config.text_config
    # Without its files it knows no words.
    if not len(tokenizer.all_special_ids) < len(tokenizer) <= config.vocab_size:
        raise ValueError(f"it knows {len(tokenizer)} tokens, and the model {config.vocab_size}")
    tower, projection = module.text_model, getattr(module, "text_projection", nn.Identity())
    is_siglip = module.config.model_type == "siglip"
    module.text_model = module.text_projection = module.config.text_config = None
    return TextSide(
        tower.eval().requires_grad_(False),
        projection.eval().requires_grad_(False),
        tokenizer,
        most_tokens=min(tokenizer.model_max_length, config.max_position_embeddings),
        # SigLIP was trained on texts of one length in tokens, and in lower case, which not each of its tokenizers
        # makes them. CLIP looks at no padding.
        padding="max_length" if is_siglip else True,
        lower=is_siglip,
    )

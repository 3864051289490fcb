"""Models small enough to make in a test: real files that the real loaders read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
    ViTConfig,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]

# SigLIP was trained on padded texts without a mask, and its tokenizers give none.
_AS_PUBLISHED: dict[str, Any] = {"model_max_length": 16, "model_input_names": ["input_ids"]}

# What the tokenizers are trained on.
_SENTENCES = [
    f"a {look} {colour} {thing}, seen from the {side}"
    for look in ("small", "worn", "shining", "broken")
    for colour in ("red", "green", "blue", "black")
    for thing in ("radio", "boot", "lesion", "teapot", "lamp")
    for side in ("front", "left", "back")
]


def make_vit(folder: Path, *, seed: int = 0, side: int = 64, hidden: int = 48) -> Path:
    """A random ViT of two layers for `side` x `side` pictures, saved as safetensors with its processor."""
    torch.manual_seed(seed)
    config = ViTConfig(**_tower(hidden), image_size=side, patch_size=16)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor = ViTImageProcessorPil(
        size={"height": side, "width": side}, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    processor.save_pretrained(folder)
    return folder


def make_clip(folder: Path, *, seed: int = 0, side: int = 64) -> Path:
    """A random CLIP for `side` x `side` pictures and 24 tokens: 32 dimensions, centre crop, byte-level BPE."""
    torch.manual_seed(seed)
    tokenizer = _clip_tokenizer()
    text = _text(48, tokenizer, max_position_embeddings=24)
    vision = {**_tower(60), "image_size": side, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(folder)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    CLIPProcessor(pixels, tokenizer).save_pretrained(folder)
    return folder


def make_siglip(folder: Path, *, seed: int = 0, side: int = 64) -> Path:
    """A random SigLIP for `side` x `side` pictures and 16 tokens: 48 dimensions, squashed, SentencePiece."""
    return _siglip(folder, _siglip_tokenizer(folder), seed, side)


def make_siglip2(folder: Path, *, seed: int = 0, side: int = 64) -> Path:
    """The same with SigLIP 2's tokenizer; its checkpoints of one size are SigLIPs otherwise."""
    return _siglip(folder, _siglip2_tokenizer(), seed, side)


def _siglip(folder: Path, tokenizer: Any, seed: int, side: int) -> Path:
    torch.manual_seed(seed)
    text = _text(48, tokenizer, max_position_embeddings=16, projection_size=48)
    vision = {**_tower(48), "image_size": side, "patch_size": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessorPil(size={"height": side, "width": side}), tokenizer).save_pretrained(
        folder
    )
    return folder


def _tower(hidden: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 2 * hidden,
        "initializer_range": 0.2,  # far apart enough for neighbours to mean something
    }


def _text(hidden: int, tokenizer: Any, **others: int) -> dict[str, Any]:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {**_tower(hidden), **others, **ids, "vocab_size": len(tokenizer)}


def _clip_tokenizer() -> CLIPTokenizer:
    made = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in sorted(letters))],
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
    )
    return CLIPTokenizer(**_trained(made, trainer), model_max_length=24)


def _siglip2_tokenizer() -> Siglip2Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    )
    return Siglip2Tokenizer(**_trained(made, trainer), padding_side="right", **_AS_PUBLISHED)


def _trained(tokenizer: Tokenizer, trainer: trainers.BpeTrainer) -> dict[str, Any]:
    """Its vocabulary and merges."""
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def _siglip_tokenizer(folder: Path) -> SiglipTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=model,
        vocab_size=80,
        hard_vocab_limit=False,
        unk_id=0,
        eos_id=1,
        bos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    path = folder / "spiece.model"
    path.write_bytes(model.getvalue())
    return SiglipTokenizer(str(path), **_AS_PUBLISHED)

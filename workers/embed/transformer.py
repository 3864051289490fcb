"""Any vision model of transformers, from the hub or from a folder."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers.activations import GELUActivation, GELUTanh

from shared.settings import Settings
from workers.decode import PixelShape, Resample, fit
from workers.embed import origin, packed
from workers.embed.attention import attention
from workers.embed.network import Network, plain
from workers.embed.packed import PackedLinear, pack_linears
from workers.embed.text import TextSide, take_text_side

# Of those with a text side, which is as their authors wrote it: its words become tokens by rules of their own.
_WITH_TEXT = ("clip", "siglip")

_ATTENTION = "lookalike"
transformers.AttentionInterface.register(_ATTENTION, attention)

_GELUS = {GELUActivation: "none", GELUTanh: "tanh"}

_RESAMPLE: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers

_log = logging.getLogger("lookalike.embed")


def transformer(settings: Settings) -> Network:
    """The model that the settings name, fed as its own processor would. StartError or ModelAway where it cannot be."""
    transformers.utils.logging.disable_progress_bar()
    try:
        return _network(settings)
    except Exception as error:  # the hub, the files and the libraries each have errors of their own
        raise origin.unloadable(settings.model, settings.model_revision, error) from error


def _network(settings: Settings) -> Network:
    model = settings.model
    commit = None
    if not origin.is_folder(model):
        commit = origin.commit(model, settings.model_revision)
        origin.fetch(model, commit)
    source: dict[str, Any] = {"revision": commit or "main", "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(model, **source)
    processor = transformers.AutoImageProcessor.from_pretrained(model, backend="pil", **source)
    module, report = transformers.AutoModel.from_pretrained(
        model,
        **{**source, **_without_pooler(config), "config": config, "dtype": torch.float32},
        use_safetensors=commit != origin.PINNED.get(model, ""),
        output_loading_info=True,
    )
    _check_complete(report["missing_keys"])
    shape, mean, std = _feeding(processor)
    joint = hasattr(module, "get_image_features")
    features = _joint_features if joint else functools.partial(_pooled, pooling=settings.pooling)
    pooling = "joint" if joint else settings.pooling
    text = _text_side(module, model, source) if config.model_type in _WITH_TEXT else None
    revision = commit or origin.hash_of(Path(model))
    return Network(module, features, shape, mean, std, pooling, revision, _lean, text)


def _text_side(module: nn.Module, model: str, source: dict[str, Any]) -> TextSide | None:
    """None, and a word in the log, where its tokenizer cannot be loaded: its pictures need none."""
    try:
        return take_text_side(module, transformers.AutoTokenizer.from_pretrained(model, **source))
    except Exception as error:
        _log.warning("%s takes no text, for its tokenizer cannot be loaded: %s", model, error)
        return None


def _without_pooler(config: Any) -> dict[str, bool]:
    """Checkpoints such as DINO's have none, and each process would make its own at random."""
    model_class = transformers.MODEL_MAPPING[type(config)]
    has_choice = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if has_choice else {}


def _check_complete(missing: Iterable[str]) -> None:
    """Transformers fills what a checkpoint lacks with random numbers; only an unused pooler may be so."""
    lacking = sorted(key for key in missing if "pooler" not in key)
    if lacking:
        raise ValueError(f"its weights lack {len(lacking)} tensors, {lacking[0]} among them")


def _joint_features(module: nn.Module, pixels: Tensor) -> Tensor:
    """Of a model with a text side (CLIP, SigLIP): the space that pictures and words share."""
    return module.get_image_features(pixel_values=pixels).pooler_output


def _pooled(module: nn.Module, pixels: Tensor, pooling: str) -> Tensor:
    hidden = module(pixel_values=pixels).last_hidden_state.float()
    if hidden.ndim == 4:  # a map, [B, D, H, W]
        hidden = hidden.flatten(2).mT
        if pooling == "cls":
            raise ValueError("its output is a map and has no class token for LOOKALIKE_POOLING=cls.")
    return hidden.mean(dim=1) if pooling == "mean" else hidden[:, 0]


def _lean(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Linear layers packed, GELUs in the pass of the layer before them, in bf16 an attention of our own."""
    module = plain(module, dtype)
    if not packed.AVAILABLE:
        return module
    if (
        dtype == torch.bfloat16 and module.config._attn_implementation == "sdpa"
    ):  # else it has a way of its own
        module.set_attn_implementation(_ATTENTION)
    for mlp in module.modules():
        gelu = _GELUS.get(type(getattr(mlp, "activation_fn", None)))
        if (
            gelu and type(getattr(mlp, "fc1", None)) is nn.Linear
        ):  # transformers' names for a layer and what follows it
            mlp.fc1, mlp.activation_fn = PackedLinear(mlp.fc1, gelu), nn.Identity()
    pack_linears(module)
    return module


def _feeding(processor: Any) -> tuple[PixelShape, np.ndarray, np.ndarray]:
    """The processor's size, mean and std, proven to give its very pixels: some processors do more."""
    shape = _shape(processor)
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    mean = np.array(processor.image_mean if processor.do_normalize else [0.0] * 3) / factor
    std = np.array(processor.image_std if processor.do_normalize else [1.0] * 3) / factor
    probe = np.random.default_rng(0).integers(0, 256, (301, 417, 3), dtype=np.uint8)
    theirs = processor(images=probe, input_data_format="channels_last", return_tensors="np")
    levels = theirs["pixel_values"][0].transpose(1, 2, 0) * std + mean
    ours = fit(probe, shape)
    if levels.shape != ours.shape or np.abs(levels - ours).max() > 1.1:
        raise ValueError(f"{type(processor).__name__} does more than resize, crop and normalise")
    return shape, mean, std


def _shape(processor: Any) -> PixelShape:
    size, resample = processor.size, _RESAMPLE[int(processor.resample)]
    if size is None:  # SigLIP 2's NaFlex
        raise ValueError("its processor gives each picture a size of its own; take a checkpoint of one size")
    if size.height and size.width:
        return PixelShape(size.height, size.width, resample=resample)
    shortest, share = size.shortest_edge, getattr(processor, "crop_pct", None)
    if share is None:
        return PixelShape(processor.crop_size.height, processor.crop_size.width, shortest, resample)
    if shortest < 384:  # ConvNeXt's own rule
        return PixelShape(shortest, shortest, int(shortest / share), resample)
    return PixelShape(shortest, shortest, resample=resample)

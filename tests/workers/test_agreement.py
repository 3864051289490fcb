from __future__ import annotations

import numpy as np
import pytest

from workers.embed.agreement import compare


@pytest.fixture
def vectors() -> np.ndarray:
    """40 unit vectors that all point nearly one way, as a random model's do."""
    raw = np.random.default_rng(0).normal(0, 0.1, (40, 16)) + np.eye(16)[0]
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_equal_vectors_agree_wholly(vectors: np.ndarray) -> None:
    same = compare(vectors, vectors)
    assert same.centred.min() == pytest.approx(1)
    assert same.neighbours.min() == 1


def test_one_picture_of_forty_that_strays_is_seen(vectors: np.ndarray) -> None:
    strayed = vectors.copy()
    strayed[7] = vectors[8]
    found = compare(strayed, vectors)
    assert found.centred.min() < 0.9
    assert found.neighbours.mean() < 1


def test_a_direction_that_all_share_does_not_hide_what_differs(vectors: np.ndarray) -> None:
    others = np.random.default_rng(1).normal(0, 0.1, vectors.shape) + np.eye(16)[0]
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert (others * vectors).sum(axis=1).min() > 0.5
    assert compare(others, vectors).centred.min() < 0.3

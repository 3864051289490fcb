"""How near one form's vectors are to another's, of the same pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 10


@dataclass(frozen=True)
class Agreement:
    """Of each picture: its cosine, its cosine less the exact vectors' mean, and the share of its ten nearest.

    Plain cosines hide differences where all vectors of a model point one way. float32 [N] each.
    """

    plain: np.ndarray
    centred: np.ndarray
    neighbours: np.ndarray


def compare(vectors: np.ndarray, exact: np.ndarray) -> Agreement:
    """Both [N, D], rows of length 1, of the same pictures in the same order."""
    mean = exact.mean(axis=0)
    shared = [
        len(set(ours) & set(theirs)) / len(theirs)
        for ours, theirs in zip(_nearest(vectors), _nearest(exact), strict=True)
    ]
    return Agreement(_cosines(vectors, exact), _cosines(vectors - mean, exact - mean), np.array(shared))


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / lengths)


def _nearest(vectors: np.ndarray) -> list[list[int]]:
    """The numbers of each row's nearest others."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest: list[list[int]] = np.argsort(-scores, axis=1)[:, :NEIGHBOURS].tolist()
    return nearest

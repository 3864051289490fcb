"""What a ranking at random would score, exactly: the level that a model's figures are read against.

A query has `candidates` images to rank, `relevant` of them of its own class (at least one). Every order is equally
likely, so each place holds a relevant image with probability relevant / candidates, and two different places both do
with probability relevant (relevant - 1) / (candidates (candidates - 1)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def precision(candidates: int, relevant: int, k: int) -> float:
    """Expectation of P@k, relevant images among the first k divided by k; fewer than k candidates fill no more."""
    return min(k, candidates) * relevant / (candidates * k)


def recall(candidates: int, k: int) -> float:
    """Expectation of recall@k: each relevant image is among the first k with the same probability."""
    return min(k, candidates) / candidates


def average_precision(candidates: int, relevant: int, harmonic: float) -> float:
    """Expectation of AP; `harmonic` is the sum of 1/i for i from 1 to `candidates`.

    AP is the mean over relevant places i of (relevant among the first i) / i. By the two probabilities above its
    expectation is 1/n · sum over i of (1 + (i - 1)(r - 1)/(n - 1)) / i, which is the closed form below. It is derived,
    with others, in Y. Bestgen, "Exact Expected Average Precision of the Random Baseline for System Evaluation",
    The Prague Bulletin of Mathematical Linguistics 103 (2015).
    """
    if candidates == 1:
        return 1.0
    return (harmonic + (relevant - 1) / (candidates - 1) * (candidates - harmonic)) / candidates


def harmonics(most: int) -> NDArray[np.float64]:
    """The harmonic numbers 0 to `most`."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])

"""Each labelled image as a query against all others: how its ranking scores, beside a ranking at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cli.progress import watched
from cli.study import chance
from cli.study.gathering import Vectors

CUTS = (1, 5, 10)
MEASURES = (*(f"P@{k}" for k in CUTS), *(f"recall@{k}" for k in CUTS), "mAP")
VOTERS = 5
_SCORES_A_BLOCK = 2**24
_STEPS = 1_000_000  # similarities are told apart at six decimals, so that rounding noise decides nothing


@dataclass(frozen=True)
class Judged:
    """The queries that have a relevant candidate: their place, label code, scores, and what chance would score.

    `scores` and `chance` are float64 [Q, len(MEASURES)]; `votes` the label code that most of the nearest five have.
    `lonely` counts the queries that were left out because no other image outside their group has their label.
    """

    queries: NDArray[np.intp]
    labels: NDArray[np.intp]
    votes: NDArray[np.intp]
    scores: NDArray[np.float64]
    chance: NDArray[np.float64]
    lonely: int


def judge(
    vectors: Vectors, labels: NDArray[np.intp], groups: NDArray[np.intp], queries: NDArray[np.intp]
) -> Judged:
    """Rank for each query all images outside its group, most alike first, ties in their order.

    `vectors` are unit rows [N, D]; `labels` and `groups` codes [N]; `queries` ascending places in them.
    """
    harmonics = chance.harmonics(len(vectors))
    kept, votes, scores, expected = [], [], [], []
    similarities = watched(_similarities(vectors, queries), "Ranking", len(queries))
    for query, row in zip(queries, similarities, strict=True):
        candidates = np.flatnonzero(groups != groups[query])
        relevant = int(np.count_nonzero(labels[candidates] == labels[query]))
        if not relevant:
            continue
        ranked = labels[ranking(row, candidates)]
        kept.append(query)
        votes.append(_majority(ranked[:VOTERS]))
        scores.append(_scores(ranked == labels[query], relevant))
        expected.append(_expected(len(candidates), relevant, harmonics[len(candidates)]))
    places = np.array(kept, np.intp)
    shape = (len(kept), len(MEASURES))
    return Judged(
        queries=places,
        labels=labels[places],
        votes=np.array(votes, np.intp),
        scores=np.array(scores, np.float64).reshape(shape),
        chance=np.array(expected, np.float64).reshape(shape),
        lonely=len(queries) - len(kept),
    )


def ranking(similarities: NDArray[np.float32], candidates: NDArray[np.intp]) -> NDArray[np.int64]:
    """The candidates' places, most alike first; of equals the earlier. One sort of integers does both."""
    steps = np.rint((1 - similarities[candidates].astype(np.float64)) * _STEPS).astype(np.int64)
    return np.sort((steps << 32) | candidates) & 0xFFFFFFFF


def _similarities(vectors: Vectors, queries: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    """Each query's row of cosine similarities to all, computed in blocks that stay small."""
    size = max(1, _SCORES_A_BLOCK // len(vectors))
    for start in range(0, len(queries), size):
        yield from vectors[queries[start : start + size]] @ vectors.T


def _scores(hits: NDArray[np.bool_], relevant: int) -> list[float]:
    """P@k, recall@k and AP of one ranking; `hits` says which of its places are relevant."""
    found = [int(np.count_nonzero(hits[:k])) for k in CUTS]
    places = np.flatnonzero(hits) + 1
    precision = [count / k for count, k in zip(found, CUTS, strict=True)]
    recall = [count / relevant for count in found]
    return [*precision, *recall, float(np.mean(np.arange(1, relevant + 1) / places))]


def _expected(candidates: int, relevant: int, harmonic: float) -> list[float]:
    return [
        *(chance.precision(candidates, relevant, k) for k in CUTS),
        *(chance.recall(candidates, k) for k in CUTS),
        chance.average_precision(candidates, relevant, harmonic),
    ]


def _majority(labels: Sequence[int] | NDArray[np.intp]) -> int:
    """The label that most have; of equals the one that comes first, which is the nearest's."""
    voted = list(labels)
    return int(max(voted, key=voted.count))

"""The figures of an evaluation: micro and macro, by class, by the values of other fields, beside chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.errors import Problem
from cli.study.gathering import Gathered
from cli.study.judging import MEASURES, Judged, judge

Json = dict[str, Any]
_DECIMALS = 6


@dataclass(frozen=True)
class Subject:
    """What an image is judged by: its label, its group, and the values of the fields of `by`."""

    label: str
    group: str | None
    by: tuple[str | None, ...]


def evaluation(images: Gathered[Subject], by: Sequence[str], sample: int | None) -> Json:
    """Judge every image, or `sample` of them, against all others outside its group. JSON-ready."""
    subjects = images.rows
    names, labels = np.unique([subject.label for subject in subjects], return_inverse=True)
    queries = _queries(len(subjects), sample)
    judged = judge(images.vectors, labels, _groups(subjects), queries)
    if not len(judged.queries):
        raise Problem(
            "No image has another of its label outside its own group, so there is nothing to measure."
        )
    classes = [str(name) for name in names]
    support = Counter(subject.label for subject in subjects)
    strata = [np.array([subjects[place].by[n] for place in judged.queries], object) for n in range(len(by))]
    everyone = np.ones(len(judged.queries), bool)
    return {
        "images": len(subjects),
        "queries": len(judged.queries),
        "left_out": {"without_label": images.skipped, "without_relevant_candidate": judged.lonely},
        **_averages(judged, everyone),
        "classes": _classes(judged, everyone, classes, support),
        "by": {
            field: [
                {"value": value, **_stratum(judged, values == value, classes)} for value in _distinct(values)
            ]
            for field, values in zip(by, strata, strict=True)
        },
        "confusion": _confusion(judged, classes),
    }


def _queries(count: int, sample: int | None) -> NDArray[np.intp]:
    """All places, or as many of them drawn at random, the same each time."""
    if sample is None or sample >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, sample, replace=False))


def _groups(subjects: Sequence[Subject]) -> NDArray[np.intp]:
    """Codes of the groups; an image without one is a group by itself."""
    codes: dict[object, int] = {}
    keys = (place if subject.group is None else subject.group for place, subject in enumerate(subjects))
    return np.array([codes.setdefault(key, len(codes)) for key in keys], np.intp)


def _distinct(values: NDArray[np.object_]) -> list[str | None]:
    """Each value once, in order; images without one come last."""
    return sorted(set(values), key=lambda value: (value is None, value or ""))


def _stratum(judged: Judged, chosen: NDArray[np.bool_], classes: Sequence[str]) -> Json:
    """The same figures, for some of the queries alone; what they are ranked against stays all."""
    return {
        "queries": int(np.count_nonzero(chosen)),
        **_averages(judged, chosen),
        "classes": _classes(judged, chosen, classes),
    }


def _averages(judged: Judged, chosen: NDArray[np.bool_]) -> Json:
    """micro: the mean over queries. macro: the mean over classes of each class's mean."""
    labels = judged.labels[chosen]
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / (counts[codes] * len(counts))
    return {
        "micro": _figures(judged, chosen, np.full(len(labels), 1 / max(len(labels), 1))),
        "macro": _figures(judged, chosen, weights),
    }


def _classes(
    judged: Judged, chosen: NDArray[np.bool_], classes: Sequence[str], support: Counter[str] | None = None
) -> list[Json]:
    """The means of each class that has queries, by its label; `images` is how many have the label at all."""
    order = np.flatnonzero(chosen)
    order = order[np.argsort(judged.labels[order], kind="stable")]
    codes, starts = np.unique(judged.labels[order], return_index=True)
    rows = []
    for code, members in zip(codes, np.split(order, starts[1:]), strict=True):
        label = classes[code]
        rows.append(
            {
                "label": label,
                **({"images": support[label]} if support else {}),
                "queries": len(members),
                **_figures(judged, members, np.full(len(members), 1 / len(members))),
            }
        )
    return rows


def _figures(judged: Judged, chosen: NDArray[Any], weights: NDArray[np.float64]) -> Json:
    """Each measure's weighted mean, and that of chance."""
    values, chances = weights @ judged.scores[chosen], weights @ judged.chance[chosen]
    return {
        measure: {"value": round(float(value), _DECIMALS), "chance": round(float(expected), _DECIMALS)}
        for measure, value, expected in zip(MEASURES, values, chances, strict=True)
    }


def _confusion(judged: Judged, classes: Sequence[str]) -> list[Json]:
    """How often queries of a label were taken for another (or the same) by the majority of their nearest five."""
    pairs: Iterable[tuple[int, int]] = zip(judged.labels.tolist(), judged.votes.tolist(), strict=True)
    counts = Counter(pairs)
    return [
        {"label": classes[label], "nearest": classes[vote], "queries": counts[label, vote]}
        for label, vote in sorted(counts)
    ]

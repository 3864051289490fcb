"""The trial that a form of a model stands before it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from workers.embed.embedder import Embedder
from workers.embed.probe import probe

# Least cosine to the vectors that are wanted, on the probe. Photographs stray about twice as far, and theirs must
# stay above 0.999.
LEAST_AGREEMENT = 0.9995

_log = logging.getLogger("lookalike.embed")

Form = TypeVar("Form", bound=Embedder)


def first_agreeing(
    ways: Iterable[tuple[str, Callable[[], Form]]], wanted: np.ndarray, least: float = LEAST_AGREEMENT
) -> Form | None:
    """The first form whose vectors of the probe are those of `wanted`, float32 [B, D], nearly enough; else None.

    One form at a time is held: what failed is let go before the next is made.
    """
    for name, make in ways:
        form = _agreeing(name, make, wanted, least)
        if form is not None:
            return form
    return None


def _agreeing(name: str, make: Callable[[], Form], wanted: np.ndarray, least: float) -> Form | None:
    try:
        made = make()
        agreement = float((wanted * made.embed(probe(made.shape))).sum(axis=1).min())
    except Exception:
        _log.warning("the model does not run as %s", name, exc_info=True)
        return None
    _log.info("vectors of %s agree to a cosine of %.5f", name, agreement)
    return made if agreement >= least else None

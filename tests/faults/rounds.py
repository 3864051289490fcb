"""The two forms of the suite: one code path, two numbers of rounds."""

from __future__ import annotations

import pytest


def rounds(*, short: int | None = None, long: int) -> pytest.MarkDecorator:
    """`count` is `short` in `make test` (None: left out), `long` in `make faults`."""
    whole = pytest.param(long, id="long", marks=[pytest.mark.faults, pytest.mark.timeout(3600)])
    few = [] if short is None else [pytest.param(short, id="short")]
    return pytest.mark.parametrize("count", [*few, whole])

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.context import Context
from benchmarks.scale.engines import Stage, measure_embedded, measure_server
from benchmarks.scale.vectors import BLOCK
from tests.qdrant_server import qdrant_for_tests


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Console(quiet=True), tmp_path, tmp_path, quick=True)


def _check(stage: Stage) -> None:
    assert stage.size == BLOCK
    assert stage.asked.recall > 0.9
    assert 0 < stage.asked.p50 <= stage.asked.p95
    assert stage.asked.resident > 0
    assert stage.growth.rate > 0


def test_the_embedded_store_is_measured_as_shipped_and_optimised(context: Context) -> None:
    shipped, optimised = measure_embedded(context, [BLOCK])
    assert (shipped.state, optimised.state) == ("as shipped", "optimised")
    assert shipped.asked.recall == 1
    _check(shipped)
    _check(optimised)
    assert not list(context.scratch.glob("*")), "what it wrote is left behind"


def test_the_server_is_measured_as_loaded_and_indexed(context: Context) -> None:
    with qdrant_for_tests():  # another of this process is not taken for it
        loaded, indexed = measure_server(context, [BLOCK])
    assert (loaded.state, indexed.state) == ("as loaded", "indexed")
    _check(loaded)
    _check(indexed)

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.scale.acceptance import accept, plain_rate
from benchmarks.scale.ledger import measure
from benchmarks.scale.processes import PartError
from benchmarks.scale.site import Site, ndjson, site
from benchmarks.scale.slow_worker import SECONDS_AN_IMAGE, SleepingEmbedder
from shared.ledger import Ledger


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with site(folder / "logs", LOOKALIKE_STORE_SOCKET=str(folder / "none")) as where:
        yield where


def test_a_worker_that_does_nothing_ends_a_job_and_has_its_cost_told(where: Site) -> None:
    with where.workers("benchmarks.scale.hollow_worker", 1, "hollow") as [worker]:
        cost = measure(where, worker, 16, 2000)
    assert set(cost.milliseconds) == {"API", "broker", "worker"}
    assert cost.total > 0


def test_items_are_accepted_whole_and_memory_is_watched(where: Site) -> None:
    accepted = accept(where, 20_000)
    assert accepted.most >= accepted.warm > 0
    assert accepted.rate > 0
    assert accepted.broker_after > accepted.broker_before
    assert plain_rate(where, 1000) > 0


def test_a_refused_submission_is_an_error_with_the_answer(where: Site) -> None:
    with where.api(), pytest.raises(PartError, match="The API answered 4"):
        where.submit("refused", [b"no json\n"])


def test_a_job_that_was_not_indexed_whole_is_no_result(where: Site) -> None:
    with where.api():
        job = where.submit("cancelled", ndjson([{"url": "https://images.shop.example/1.jpg"}]))
    Ledger(where.redis, where.settings).cancel(job)
    with pytest.raises(PartError, match="cancelled"):
        where.ended(job)


def test_the_sleeping_model_gives_unit_vectors_of_the_pictures() -> None:
    embedder = SleepingEmbedder()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    vectors = embedder.embed(pictures)
    assert vectors.shape == (2, embedder.card.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(embedder.embed([pictures[1]])[0], vectors[1])
    assert np.isfinite(embedder.embed(np.zeros((1, 224, 224, 3), np.uint8))).all()
    assert SECONDS_AN_IMAGE > 0

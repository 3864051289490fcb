"""Fixtures: a whole worker's tools in this process, all of them real, with a small model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import redis

from shared.files import Files
from shared.ledger import Ledger
from shared.settings import Settings
from shared.uploads import Uploads
from tests.image_server import ImageServer
from tests.models import make_vit
from workers.batcher import Batcher
from workers.crew import Crew
from workers.decoders import Decoders
from workers.embed import Embedder, load_embedder
from workers.fetch import Fetcher
from workers.index.edge import EdgeIndex
from workers.lease import Leases
from workers.models import Model, Models
from workers.parts import Parts
from workers.placeholders import Placeholders
from workers.rows import Rows
from workers.turns import Turns


class CountingEmbedder:
    """The real embedder, counting the pictures that pass through it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.card = embedder.card
        self.shape = embedder.shape
        self.device = embedder.device
        self.memory = embedder.memory
        self.text = embedder.text
        self.pictures = 0

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.pictures += len(pictures)
        return self._embedder.embed(pictures)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vit(tmp_path_factory.mktemp("small-vit"))


@pytest.fixture(scope="session")
def small_embedder(small_model: Path) -> Embedder:
    return load_embedder(Settings(model=str(small_model), device="cpu", runtime="torch"))


@pytest.fixture
def images() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture
def parts(
    tmp_path: Path,
    redis_client: redis.Redis,
    settings: Settings,
    small_embedder: Embedder,
) -> Iterator[Parts]:
    settings = settings.model_copy(
        update={
            "fetch_allow": Settings(fetch_allow="127.0.0.0/8").fetch_allow,
            "fetch_timeout": 2.0,
            "fetch_threads": 8,
            "decode_processes": 2,
            "files": str(tmp_path / "files"),
        }
    )
    ledger = Ledger(redis_client, settings)
    embedder = CountingEmbedder(small_embedder)
    rows = Rows(20, embedder.shape, reserve=2)
    index = EdgeIndex(tmp_path / "index")
    models = Models(
        settings,
        Model(
            embedder,
            rows,
            Decoders(settings, embedder.shape, rows),
            Batcher(embedder, batch_size=8, threads=1),
        ),
    )
    made = Parts(
        settings=settings,
        redis=redis_client,
        ledger=ledger,
        uploads=Uploads(redis_client, settings),
        index=index,
        placeholders=Placeholders(index),
        fetcher=Fetcher(settings),
        models=models,
        crew=Crew(redis_client, models),
        pool=ThreadPoolExecutor(8),
        leases=Leases(ledger, settings.lease_seconds),
        turns=Turns(),
        files=Files(settings),
    )
    yield made
    made.close()

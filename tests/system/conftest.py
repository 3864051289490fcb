"""One whole stack for the tests of this folder, and one image server that counts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.image_server import ImageServer
from tests.models import make_vit
from tests.system.stack import Stack

# The images are served here, and `http://127.0.0.1` stays refused.
IMAGES_HOST = "127.0.0.2"

pytest.register_assert_rewrite("tests.system.reindexing")


@pytest.fixture(scope="session")
def images() -> Iterator[ImageServer]:
    with ImageServer(host=IMAGES_HOST) as server:
        yield server


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """The one that the stack reads data sets from."""
    served = Hub()
    yield served
    served.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small ones that a collection may name."""
    folder = tmp_path_factory.mktemp("models")
    return make_vit(folder / "old"), make_vit(folder / "new", seed=1, hidden=60)


@pytest.fixture(scope="session")
def settings(hub: Hub, models: tuple[Path, Path]) -> dict[str, str]:
    """All happens soon."""
    return {
        "HF_ENDPOINT": hub.url,
        "LOOKALIKE_MODELS": ",".join(map(str, models)),
        "LOOKALIKE_FETCH_ALLOW": f"{IMAGES_HOST}/32",
        "LOOKALIKE_FETCH_TIMEOUT": "4",
        "LOOKALIKE_LEASE_SECONDS": "6",
        "LOOKALIKE_RESEND_SECONDS": "3",
        "LOOKALIKE_RECONCILE_SECONDS": "1",
        "LOOKALIKE_CHUNK_SIZE": "16",
        "LOOKALIKE_FETCH_ATTEMPTS": "2",
        "LOOKALIKE_FETCH_RETRY_SECONDS": "0.5",
    }


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Stack]:
    """For tests that keep to collections of their own. As it comes, it chooses the runtime itself."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "data", LOOKALIKE_RUNTIME="auto", **settings)
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
def collection() -> str:
    """A name that no other test uses."""
    return f"c-{uuid.uuid4().hex[:10]}"

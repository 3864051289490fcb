"""One whole stack for the tests of this folder, and one image server that counts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.image_server import ImageServer
from tests.system.stack import Stack

# The images are served here, and `http://127.0.0.1` stays refused.
IMAGES_HOST = "127.0.0.2"


@pytest.fixture(scope="session")
def images() -> Iterator[ImageServer]:
    with ImageServer(host=IMAGES_HOST) as server:
        yield server


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("stack") / "data",
        LOOKALIKE_FETCH_ALLOW=f"{IMAGES_HOST}/32",
        LOOKALIKE_FETCH_TIMEOUT="4",
        LOOKALIKE_LEASE_SECONDS="6",
        LOOKALIKE_RESEND_SECONDS="3",
        LOOKALIKE_RECONCILE_SECONDS="1",
        LOOKALIKE_CHUNK_SIZE="16",
        LOOKALIKE_FETCH_ATTEMPTS="2",
        LOOKALIKE_FETCH_RETRY_SECONDS="0.5",
    )
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
def collection() -> str:
    """A name that no other test uses."""
    return f"c-{uuid.uuid4().hex[:10]}"

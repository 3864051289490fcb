from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import StartError
from shared.settings import Settings
from workers.index import open_index
from workers.index.server import ServerIndex
from workers.index.store_client import StoreClient


def test_a_qdrant_server_takes_the_stores_place() -> None:
    both = Settings(qdrant_url="http://127.0.0.1:9", store_socket=Path("s"))
    assert isinstance(open_index(both), ServerIndex)
    assert isinstance(open_index(Settings(qdrant_url=None, store_socket=Path("s"))), StoreClient)


def test_no_place_for_vectors_says_what_to_set() -> None:
    with pytest.raises(StartError, match=r"QDRANT_URL.*lookalike up"):
        open_index(Settings(qdrant_url=None, store_socket=None))

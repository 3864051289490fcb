"""shared/parcels.py: what stands for items in the ledger."""

from __future__ import annotations

import uuid

import pytest

from shared.contract import point_id
from shared.parcels import HASH_BYTES, point_hash


@pytest.mark.parametrize("id", ["p1", "http://shop.example/a.jpg", "größe", "x" * 512])
def test_a_hash_of_an_id_is_the_end_of_its_point_id(id: str) -> None:
    assert point_hash(id) == uuid.UUID(point_id(id)).bytes[-HASH_BYTES:]

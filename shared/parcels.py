"""Items as they go into the ledger: chunk by chunk, packed."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.contract import ITEMS, Item, point_id

HASH_BYTES = 8


@dataclass(frozen=True)
class Parcel:
    """Items that become one chunk, and how many bytes are parked for them."""

    items: Sequence[Item]
    parked: int = 0


def pack(data: bytes) -> bytes:
    return zlib.compress(data, 3)


def packed_items(items: Sequence[Item]) -> bytes:
    return pack(ITEMS.dump_json(list(items), exclude_defaults=True))


def words(parcels: Iterable[Parcel]) -> Iterator[int | bytes]:
    """What `accept.lua` is told of each."""
    for parcel in parcels:
        yield from (len(parcel.items), packed_items(parcel.items), parcel.parked)


def point_hash(item_id: str) -> bytes:
    """8 bytes of the item's point id: enough to tell millions apart."""
    return uuid.UUID(point_id(item_id)).bytes[-HASH_BYTES:]


def point_hashes(items: Iterable[Item]) -> bytes:
    return b"".join(point_hash(item.id) for item in items)

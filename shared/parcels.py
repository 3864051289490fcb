"""Items as they go into the ledger: chunk by chunk, packed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.contract import ITEMS, Item

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


def uploads_of(items: Iterable[Item]) -> str:
    """The sha256s of their parked bytes, 64 letters each."""
    return "".join(item.upload for item in items if item.upload)


def chunk_words(items: Sequence[Item]) -> tuple[int, bytes, str]:
    """What a script is told of items that become a chunk."""
    return len(items), packed_items(items), uploads_of(items)


def words(parcels: Sequence[Parcel]) -> Iterator[int | bytes | str]:
    """What `accept.lua` is told of them."""
    items = [item for parcel in parcels for item in parcel.items]
    yield id_hashes(items)
    yield sum(item.refused is not None and item.refused.unnamed for item in items)
    for parcel in parcels:
        yield from (*chunk_words(parcel.items), parcel.parked)


def id_hash(id: str) -> bytes:
    """Eight bytes that stand for an id: enough to tell millions apart."""
    return hashlib.blake2b(id.encode(), digest_size=HASH_BYTES).digest()


def id_hashes(items: Iterable[Item]) -> bytes:
    return b"".join(id_hash(item.id) for item in items)

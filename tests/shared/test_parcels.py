"""shared/parcels.py: what stands for items in the ledger."""

from __future__ import annotations

from shared.parcels import HASH_BYTES, id_hash


def test_an_id_is_known_by_a_few_bytes_and_no_two_are_mixed_up() -> None:
    ids = [f"http://shop.example/{n}.jpg" for n in range(100_000)] + ["größe", "x" * 512]
    hashes = {id_hash(id) for id in ids}
    assert len(hashes) == len(ids)
    assert {len(each) for each in hashes} == {HASH_BYTES}

"""What holds of the embedded engine's folder, beyond the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import IndexUnavailable, StartError
from tests.workers.index.shop import CARD, fill, image
from workers.index.edge import EdgeIndex


def test_everything_stands_after_closing_and_opening(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.ensure_indexes("shop", {"brand": "keyword", "sale": "bool", "price": "integer", "name": "text"})
    before = index.scroll("shop")
    collection = index.find("shop")
    index.close()
    again = EdgeIndex(tmp_path)
    assert again.collections() == [collection]
    assert again.scroll("shop") == before
    assert again.facet("shop", "brand") == [("bob", 3), ("ada", 2), ("cat", 1)]
    again.close()


def test_a_second_owner_of_the_folder_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = EdgeIndex(tmp_path)
    with pytest.raises(StartError, match="Another process uses the store"):
        EdgeIndex(tmp_path)
    first.close()
    EdgeIndex(tmp_path).close()


def test_a_closed_index_is_unavailable_rather_than_empty(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    index.close()
    for ask in (index.collections, index.ping, lambda: index.count("shop"), lambda: index.create("a", CARD)):
        with pytest.raises(IndexUnavailable):
            ask()


def test_leftovers_of_a_crash_are_removed_at_the_next_start(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    (tmp_path / ".new-abc" / "shard").mkdir(parents=True)
    (tmp_path / "shop").rename(tmp_path / ".old-abc")
    again = EdgeIndex(tmp_path)
    assert again.collections() == []
    assert again.create("shop", CARD) is True
    again.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "shop"]


def test_a_damaged_collection_is_named_at_the_start(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    (tmp_path / "shop" / "card.json").write_text("{")
    with pytest.raises(StartError, match="Collection `shop` cannot be opened"):
        EdgeIndex(tmp_path)


def test_a_flush_keeps_the_index_open(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.flush()
    index.upsert("shop", [image("later")])
    assert index.count("shop") == 9
    index.close()

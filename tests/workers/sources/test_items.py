"""workers/sources/items.py: what one row may weigh, and which refusals name what they stand for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workers.sources.conftest import orders, read_here, written
from workers.sources.items import ItemAndBytes, Items
from workers.sources.rows import Rows

MIB = 2**20


@pytest.fixture
def opened() -> list[str]:
    """The paths that were opened."""
    return []


@pytest.fixture
def items_of(opened: list[str]) -> Callable[..., list[ItemAndBytes]]:
    """The items of a row whose pictures, 16 MiB each, stand in a folder."""
    picture = bytes(16 * MIB)

    def open(path: str, most: int) -> bytes:
        opened.append(path)
        return picture[:most]

    def make(row: dict[str, Any], **given: Any) -> list[ItemAndBytes]:
        pictures = ["image"] if "image" in row else []
        rows = Rows(lambda _: iter([]), columns=list(row), pictures=pictures, open=open)
        return Items(orders(given=given, dataset="a/b"), rows).of(row, 7)

    return make


def test_a_row_of_pictures_that_weigh_too_much_fails_alone_and_no_more_of_it_is_read(
    items_of: Callable[..., list[ItemAndBytes]], opened: list[str]
) -> None:
    assert len(items_of({"id": "a", "image": ["x.jpg"] * 3})) == 3
    opened.clear()
    [(item, data)] = items_of({"id": "a", "image": ["x.jpg"] * 900})
    assert (item.id, data, len(opened)) == ("a", None, 4)
    assert item.refused
    assert (item.refused.code, item.refused.unnamed) == ("too_large", True)
    assert "67,108,864 bytes" in item.refused.detail
    [(nameless, _)] = items_of({"id": None, "image": ["x.jpg"] * 900})
    assert nameless.id == "row:7"


def test_none_of_a_thousand_and_one_pictures_is_opened(
    items_of: Callable[..., list[ItemAndBytes]], opened: list[str]
) -> None:
    [(item, _)] = items_of({"id": "a", "image": ["x.jpg"] * 1001})
    assert (item.id, opened) == ("a", [])


def test_a_row_may_have_what_one_picture_may_have(items_of: Callable[..., list[ItemAndBytes]]) -> None:
    row = {"id": "a", "image": bytes(80 * MIB)}
    [(item, data)] = items_of(row, max_image_bytes=80 * MIB)
    assert item.refused is None
    assert data is row["image"]


def test_a_payload_that_many_links_repeat_weighs_as_often(
    items_of: Callable[..., list[ItemAndBytes]],
) -> None:
    urls = [f"http://a.example/{number}" for number in range(200)]
    assert len(items_of({"id": "a", "url": urls, "text": "x" * (MIB // 4)})) == 200
    [(item, _)] = items_of({"id": "a", "url": urls, "text": "x" * (MIB // 2)})
    assert item.id == "a"
    assert item.refused
    assert item.refused.unnamed


def test_a_row_that_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    table = written(
        tmp_path / "a.csv", ["id,url", "1,http://a.example/1", "2,http://a.example/2,,", "3,nope"]
    )
    assert read_here(table).unnamed == ["row:1"]
    lines = ['{"id": "1", "url": "http://a.example/1"}', '{"id": "2"', '{"id": "3"}']
    assert read_here(written(tmp_path / "a.jsonl", lines)).unnamed == ["row:1"]


def test_a_row_without_the_id_that_images_are_known_by_is_refused_and_names_nothing(tmp_path: Path) -> None:
    lines = ["sku,url", "1,http://a.example/1", ",http://a.example/2", "3,http://a.example/3"]
    table = written(tmp_path / "a.csv", lines)
    read = read_here(table, id_column="sku")
    assert [item.id for item in read.items if not item.refused] == ["1", "3"]
    assert read.unnamed == ["http://a.example/2"]
    code, why = read.refusals()["http://a.example/2"]
    assert (code, "`sku`" in why) == ("payload_invalid", True)
    pictures = [{"bytes": b"one", "path": None}, {"bytes": b"two", "path": None}]
    pq.write_table(pa.table({"image": pictures, "sku": [float("nan"), 2.0]}), tmp_path / "a.parquet")
    read = read_here(tmp_path / "a.parquet", id_column="sku")
    assert (read.unnamed, read.images) == (["row:0"], {"2": b"two"})


def test_where_nobody_named_a_column_of_ids_a_row_without_one_is_known_by_its_url(tmp_path: Path) -> None:
    lines = ["id,url", "1,http://a.example/1", ",http://a.example/2"]
    read = read_here(written(tmp_path / "a.csv", lines))
    assert ([item.id for item in read.items], read.unnamed) == (["1", "http://a.example/2"], [])


def test_what_an_item_weighs_is_counted_in_bytes(tmp_path: Path) -> None:
    rows = [{"url": f"http://a.example/{text}", "text": text * 400} for text in "a質"]
    read = read_here(written(tmp_path / "a.json", json.dumps(rows).encode()), given={"max_item_bytes": 1000})
    assert list(read.refusals()) == ["http://a.example/質"]


def test_a_row_of_too_many_images_names_none_of_them(tmp_path: Path) -> None:
    urls = [f"http://a.example/{number}" for number in range(1001)]
    feed = written(tmp_path / "a.jsonl", [json.dumps({"id": "a", "url": urls})])
    assert read_here(feed).unnamed == ["a"]


def test_a_picture_that_is_not_to_be_had_is_named_by_its_id_alone(tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": "x.jpg"}, {"bytes": b"x" * 2000, "path": None}, None]
    given = {"max_image_bytes": 1000}
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": cells, "id": ["a", "b", "c"]}), tmp_path / "b.parquet")
    assert read_here(tmp_path / "a.parquet", given=given).unnamed == ["row:0", "row:1", "row:2"]
    named = read_here(tmp_path / "b.parquet", given=given)
    assert (list(named.refusals()), named.unnamed) == (["a", "b", "c"], [])


def test_a_list_of_pictures_that_is_cut_off_stands_for_several(tmp_path: Path) -> None:
    feed = written(tmp_path / "a.jsonl", [json.dumps({"id": "a", "image": '["http://a.example/1","http'})])
    assert read_here(feed, image_column="image").unnamed == ["a"]


def test_a_picture_whose_payload_cannot_be_kept_is_named_by_its_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"one", "path": None}], "_x": [1]}), tmp_path / "a.parquet")
    read = read_here(tmp_path / "a.parquet")
    assert list(read.refusals()) == [f"sha256:{hashlib.sha256(b'one').hexdigest()}"]
    assert read.unnamed == []

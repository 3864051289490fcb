"""shared/rows.py: the items of a row."""

from __future__ import annotations

from typing import Any

import pytest

from shared.rows import Layout


def same(cell: Any) -> Any:
    return cell


@pytest.mark.parametrize(
    ("id", "kept"),
    [("x", "x"), (7, "7"), (7.0, "7"), (7.5, "7.5"), ("", None), (None, None), (float("nan"), None)],
)
def test_an_id_is_text_in_any_case(id: Any, kept: str | None) -> None:
    [item] = Layout(id_column="id", apart={"id", "url"}).items({"id": id, "url": "http://a.example/1"}, same)
    assert item.id == (kept or "http://a.example/1")


def test_a_row_without_the_id_that_is_needed_is_refused_once_and_says_where() -> None:
    layout = Layout(id_column="sku", needs_id=True, separator="|", apart={"sku", "url"})
    [item] = layout.items({"sku": "", "url": "http://a.example/1|http://a.example/2"}, same)
    assert item.url == "http://a.example/1"
    assert item.refused
    assert (item.refused.code, "`sku`" in item.refused.detail) == ("payload_invalid", True)
    assert [item.id for item in layout.items({"sku": 7, "url": "http://a.example/1"}, same)] == ["7#1"]


def test_a_group_is_the_rows_id_or_what_a_column_says() -> None:
    row = {"id": "p", "url": "http://a.example/1|http://a.example/2", "lesion": 5}
    own = Layout(id_column="id", separator="|", apart={"id", "url"})
    named = Layout(id_column="id", separator="|", apart={"id", "url"}, group_column="lesion")
    assert [item.payload["group"] for item in own.items(row, same)] == ["p", "p"]
    assert [item.payload["group"] for item in named.items(row, same)] == [5, 5]
    assert [item.payload for item in named.items({**row, "lesion": None}, same)] == [{}, {}]


def test_a_filler_stands_where_nothing_else_does() -> None:
    layout = Layout(fill={"age": 0, "price": 1.0}, prices={"price"}, apart={"url"})
    [item] = layout.items({"url": "http://a.example/1", "age": None, "price": "$5"}, same)
    assert item.payload == {"age": 0, "price": 5.0}


@pytest.mark.parametrize(
    ("cell", "unnamed"), [('["http://a.example/1","http://b', True), ("", False), ("ftp:/x", False)]
)
def test_a_list_of_images_that_is_cut_off_stands_for_several(cell: str, unnamed: bool) -> None:
    for separator in ("|", None):
        layout = Layout(id_column="id", separator=separator, apart={"id", "url"})
        [item] = layout.items({"id": "p", "url": cell}, same)
        assert item.refused
        assert (item.refused.code, item.refused.unnamed) == ("bad_url", unnamed)

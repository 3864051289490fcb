"""api/table.py through POST …/jobs: CSV feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import Item
from tests.api.conftest import assert_problem

Accepted = Callable[[TestResponse], list[Item]]
JOBS = "/v1/collections/shop/jobs"


def post(client: FlaskClient, body: str | bytes, kind: str = "text/csv", **query: str) -> TestResponse:
    return client.post(JOBS, data=body, content_type=kind, query_string=query)


def test_other_columns_are_payload_fields(client: FlaskClient, accepted: Accepted) -> None:
    body = 'id,url,dx,note\n7,http://a.example/7.jpg,mel,"two\nlines"\n8,http://a.example/8.jpg,,\n'
    assert accepted(post(client, body)) == [
        Item(id="7", url="http://a.example/7.jpg", payload={"dx": "mel", "note": "two\nlines"}),
        Item(id="8", url="http://a.example/8.jpg"),
    ]


def test_without_an_id_the_url_is_the_id(client: FlaskClient, accepted: Accepted) -> None:
    ids = [item.id for item in accepted(post(client, "url,id\nhttp://a.example/1,\nhttp://a.example/2,x\n"))]
    assert ids == ["http://a.example/1", "x"]


def test_a_row_without_any_cell_is_no_row(client: FlaskClient, accepted: Accepted) -> None:
    assert (
        len(accepted(post(client, "id,url,dx\n1,http://a.example/1,\n,,\n\n2,http://a.example/2,mel\n"))) == 2
    )


def test_columns_of_other_feeds_are_mapped(client: FlaskClient, accepted: Accepted) -> None:
    body = "Uniq Id,Image,id\nu1,http://a.example/1,5\n"
    items = accepted(post(client, body, url_column="Image", id_column="Uniq Id"))
    assert items == [Item(id="u1", url="http://a.example/1", payload={"id": 5})]


def test_a_row_without_the_id_that_was_asked_for_is_refused(client: FlaskClient, accepted: Accepted) -> None:
    body = "sku,url\nu1,http://a.example/1\n,http://a.example/2\n"
    named, nameless = accepted(post(client, body, id_column="sku"))
    assert (named.id, named.refused, nameless.id) == ("u1", None, "http://a.example/2")
    assert nameless.refused
    assert "`sku` is empty" in nameless.refused.detail


def test_a_row_of_several_urls_is_several_items_of_one_group(client: FlaskClient, accepted: Accepted) -> None:
    body = "id,url,price\np1,http://a.example/1 | http://a.example/2|,9.5\np2,http://a.example/3,\n"
    assert accepted(post(client, body, separator="|")) == [
        Item(id="p1#1", url="http://a.example/1", payload={"price": 9.5, "group": "p1"}),
        Item(id="p1#2", url="http://a.example/2", payload={"price": 9.5, "group": "p1"}),
        Item(id="p2#1", url="http://a.example/3", payload={"group": "p2"}),
    ]


def test_several_urls_without_an_id_column_are_their_own_ids(client: FlaskClient, accepted: Accepted) -> None:
    items = accepted(post(client, "url\nhttp://a.example/1|http://a.example/2\n", separator="|"))
    assert [(item.id, item.payload) for item in items] == [
        ("http://a.example/1", {}),
        ("http://a.example/2", {}),
    ]


def test_a_json_list_of_urls_is_several_items_and_any_other_a_list(
    client: FlaskClient, accepted: Accepted
) -> None:
    body = 'id,url,tags\np1,"[""http://a.example/1"", ""http://a.example/2""]","[""x"", 2]"\n'
    assert accepted(post(client, body)) == [
        Item(id=f"p1#{view}", url=f"http://a.example/{view}", payload={"tags": ["x", 2], "group": "p1"})
        for view in (1, 2)
    ]


def test_columns_of_prices_are_amounts(client: FlaskClient, accepted: Accepted) -> None:
    body = (
        'url,List Price,Price\nhttp://a.example/1,$24.99,"1.299,00 €"\nhttp://a.example/2,Sold out,$9 - $12\n'
    )
    assert [item.payload for item in accepted(post(client, body, prices="List Price, Price"))] == [
        {"List Price": 24.99, "Price": 1299.0},
        {"List Price": "Sold out", "Price": 9.0},
    ]


def test_a_column_says_what_belongs_together(client: FlaskClient, accepted: Accepted) -> None:
    body = "url,lesion\nhttp://a.example/1,HAM_1\nhttp://a.example/2,\n"
    items = accepted(post(client, body, group_column="lesion"))
    assert [item.payload for item in items] == [{"lesion": "HAM_1", "group": "HAM_1"}, {}]


def test_a_row_of_a_thousand_and_one_urls_is_one_failure_row(client: FlaskClient, accepted: Accepted) -> None:
    urls = "|".join(f"http://a.example/{number}" for number in range(1001))
    [item] = accepted(post(client, f"id,url\np,{urls}\n", separator="|"))
    assert item.refused is not None
    assert (item.id, item.refused.code) == ("p", "payload_invalid")


@pytest.mark.parametrize("separator", [None, "|"])
def test_a_row_without_a_url_is_a_failure_row(
    client: FlaskClient, accepted: Accepted, separator: str | None
) -> None:
    query = {"separator": separator} if separator else {}
    items = accepted(post(client, "id,url,a\n1,,x\n2,not a url,x\n3,http://a.example/3\n", **query))
    assert [item.refused and item.refused.code for item in items] == ["bad_url", "bad_url", None]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("7", 7), ("-3", -3), ("0", 0), ("1.50", 1.5), ("-0.5", -0.5), ("123456789012345", 123456789012345),
        ("true", True), ("False", False),
        ("00123", "00123"), ("+49", "+49"), ("1e5", "1e5"), ("1234567890123456", "1234567890123456"),
        (".5", ".5"), ("5.", "5."), ("-0", "-0"), (" 7", " 7"), ("NaN", "NaN"), ("null", "null"), ("None", "None"),
        ("yes", "yes"), ("٣", "٣"), ("1,5", "1,5"),
    ],
)  # fmt: skip
def test_only_what_plainly_is_a_number_becomes_one(
    client: FlaskClient, accepted: Accepted, cell: str, value: Any
) -> None:
    [item] = accepted(post(client, f'url,a\nhttp://a.example/1,"{cell}"\n'))
    assert item.payload == {"a": value}
    assert type(item.payload["a"]) is type(value)


def test_tabs_separate_a_tsv(client: FlaskClient, accepted: Accepted) -> None:
    [item] = accepted(post(client, "url\ta\nhttp://a.example/1\tx,y\n", "text/tab-separated-values"))
    assert item.payload == {"a": "x,y"}


def test_a_spreadsheets_export_is_read(client: FlaskClient, accepted: Accepted) -> None:
    body = b"\xef\xbb\xbf,url, id\r\n0,http://a.example/1,\xc3\xa9\r\n\r\n1,http://a.example/2,b\r\n"
    assert [(item.id, item.payload) for item in accepted(post(client, body))] == [("é", {}), ("b", {})]


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ("id,link\n1,http://a\n", 400, "invalid_body", ("no column `url`", "`link`", "url_column")),
        ("url,a,a\n", 400, "invalid_body", ("`a` twice",)),
        ('url\n"http://a', 400, "invalid_body", ("Row 2", "not CSV")),
        ('url,a\nhttp://a,1\nhttp://b,"x"y\n', 400, "invalid_body", ("Row 3", "not CSV")),
        (b"url\nhttp://a\nhttp://\xff\n", 400, "invalid_body", ("Row 3", "UTF-8")),
        ("url,a\nhttp://a,1,2\n", 422, "invalid_item", ("Row 2", "3 cells")),
        ('url,a\nhttp://a,"' + "x\n" * 2**20, 422, "invalid_item", ("Row 2", "too long")),
        ("url,a\nhttp://a," + "x" * 2**21, 422, "invalid_item", ("Row 2", "too long")),
        ("url\n", 422, "invalid_body", ("holds no items",)),
        ("", 422, "invalid_body", ("holds no items",)),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(
    client: FlaskClient, body: str | bytes, status: int, code: str, words: tuple[str, ...]
) -> None:
    assert_problem(post(client, body), status, code, *words)


@pytest.mark.parametrize("argument", ["id_column", "group_column", "prices"])
def test_a_column_that_was_asked_for_must_be_there(client: FlaskClient, argument: str) -> None:
    response = post(client, "url\nhttp://a\n", **{argument: "sku"})
    assert_problem(response, 400, "invalid_body", "no column `sku`", argument)


def test_a_misspelt_argument_is_named(client: FlaskClient) -> None:
    assert_problem(post(client, "url\nhttp://a\n", separatr="|"), 422, "invalid_request", "`separatr`")
    assert_problem(
        post(client, "url\nhttp://a\n", callback_url="x"), 422, "not_implemented", "`callback_url`"
    )

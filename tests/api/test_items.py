"""api/items.py: a client's object as an item."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Any

import pytest

from api.items import item_from
from shared.contract import Item
from shared.errors import RequestError

URL = "http://a.example/1.jpg"


def test_null_is_the_same_as_absent() -> None:
    assert item_from({"url": URL, "id": None, "payload": None}, "Line", 1) == item_from(
        {"url": URL}, "Line", 1
    )


def test_a_thousand_is_written_so_that_it_can_be_read() -> None:
    with pytest.raises(RequestError, match="Line 1,234"):
        item_from([], "Line", 1234)


# What an export brings back


def line(**fields: Any) -> Item:
    return item_from(fields, "Line", 1)


def test_a_vector_comes_as_numbers_or_as_their_bytes() -> None:
    encoded = b64encode(struct.pack("<3f", 1, -0.5, 0.25)).decode()
    for vector in ([1, -0.5, 0.25], encoded):
        item = line(url=URL, vector=vector, fingerprint="vit@1/x")
        assert (item.vector, item.fingerprint, item.refused) == (encoded, "vit@1/x", None)


def test_an_item_with_its_vector_needs_an_id_but_no_url() -> None:
    item = line(id="x", vector=[1.0], payload={"n": 1})
    assert (item.id, item.url, item.payload, item.refused) == ("x", None, {"n": 1}, None)
    for fields in ({"vector": [1.0]}, {"id": "x"}, {"id": "", "vector": [1.0]}, {"id": 7, "vector": [1.0]}):
        with pytest.raises(RequestError, match="`url` is missing"):
            line(**fields)


def test_of_an_exported_image_only_what_is_known_of_its_bytes_is_taken() -> None:
    facts = {"sha256": "0" * 64, "width": 3, "height": 4, "format": "jpeg", "bytes": 5, "model": "vit@1/x"}
    item = line(url=URL, vector=[1.0], image=facts | {"job": "job_x/1", "etag": "x", "thumbnail": True})
    assert item.image == facts


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"vector": []}, "1 to 65,536"),
        ({"vector": ""}, "1 to 65,536"),
        ({"vector": "AAAA"}, "1 to 65,536"),
        ({"vector": "not base64!"}, "base64"),
        ({"vector": {"0": 1}}, "list of finite numbers"),
        ({"vector": ["1"]}, "list of finite numbers"),
        ({"vector": [True]}, "list of finite numbers"),
        ({"vector": [[1.0]]}, "list of finite numbers"),
        ({"vector": [float("nan")]}, "list of finite numbers"),
        ({"vector": [1e39]}, "list of finite numbers"),
        ({"vector": [10**400]}, "list of finite numbers"),
        ({"vector": [0.0] * 65_537}, "1 to 65,536"),
        ({"vector": [1.0], "image": []}, "`image`"),
        ({"vector": [1.0], "fingerprint": 7}, "`fingerprint`"),
        ({"vector": [1.0], "fingerprint": "x" * 513}, "`fingerprint`"),
        ({"image": {"width": 1}}, "there is none"),
        ({"fingerprint": "vit"}, "there is none"),
    ],
)
def test_what_cannot_be_brought_back_is_a_failure_row(fields: dict[str, Any], word: str) -> None:
    item = line(url=URL, payload={"n": 1}, **fields)
    assert item.refused is not None
    assert (item.refused.code, item.url, item.vector, item.payload) == ("payload_invalid", URL, None, {})
    assert word in item.refused.detail


def test_a_flaw_of_the_item_itself_comes_before_that_of_its_vector() -> None:
    item = line(id="x", vector=[1.0], payload={"_x": 1})
    assert item.refused is not None
    assert "`_x`" in item.refused.detail
    assert line(id="x" * 600, vector=[1.0]).id == "x" * 512

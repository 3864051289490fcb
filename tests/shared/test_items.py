"""shared/items.py: what becomes a failure row, and harms no other item."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from shared.items import checked_item, payload_refusal

URL = "http://a.example/1.jpg"


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "url", [URL, "HTTPS://A.EXAMPLE/ü?q=1#f", "http://[::1]/x", "http://user@a.example/"]
)
def test_a_web_url_is_taken_as_it_stands(url: str) -> None:
    item = checked_item(url, None, None)
    assert (item.id, item.url, item.refused) == (url, url, None)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.example/1", "/1.jpg", "a.example/1.jpg", "http://", " " + URL, "http://a.example/1 2", URL + "\n",
     "javascript:alert(1)", "http://a.example/\x00", "data:image/png;base64,AA==", URL + "x" * 8192],
)  # fmt: skip
def test_a_url_that_cannot_be_fetched_is_a_failure_row(url: str) -> None:
    item = checked_item(url, "mine", {"a": 1})
    assert item.refused is not None
    assert (item.id, item.refused.code, item.payload) == ("mine", "bad_url", {})


def test_a_refused_item_has_an_id_in_any_case() -> None:
    assert checked_item("", None, None).id == f"url-sha256:{hashlib.sha256(b'').hexdigest()}"
    assert len(checked_item(URL, "x" * 1000, None).id) == 512


def test_a_url_longer_than_an_id_gives_its_hash_as_the_id() -> None:
    url = URL + "?" + "x" * 600
    assert checked_item(url, None, None).id == f"url-sha256:{hashlib.sha256(url.encode()).hexdigest()}"
    assert checked_item(URL.ljust(512, "x"), None, None).id == URL.ljust(512, "x")


@pytest.mark.parametrize("id", ["", 7, 7.5, True, [], {}, "x" * 513])
def test_an_id_that_is_no_short_string_is_a_failure_row(id: Any) -> None:
    refused = checked_item(URL, id, None).refused
    assert refused is not None
    assert (refused.code, "`id`" in refused.detail, refused.unnamed) == ("payload_invalid", True, True)


@pytest.mark.parametrize("id", [7, "x" * 513])
def test_an_id_that_cannot_be_read_is_said_though_the_url_is_bad_too(id: Any) -> None:
    refused = checked_item("ftp://a.example/1", id, None).refused
    assert refused
    assert refused.unnamed


@pytest.mark.parametrize("url", ["", "htp://a.example/1", URL + "x" * 8192])
def test_a_bad_url_is_an_id_that_cannot_be_read_where_there_is_no_other(url: str) -> None:
    refused = checked_item(url, None, None).refused
    assert refused
    assert (refused.code, refused.unnamed) == ("bad_url", True)
    assert checked_item(URL, None, []).refused == checked_item(URL, "mine", []).refused


def test_what_is_refused_for_another_reason_is_known_by_its_id() -> None:
    for item in (checked_item("", "mine", None), checked_item(URL, "mine", [])):
        assert item.refused
        assert not item.refused.unnamed


@pytest.mark.parametrize("id", ["x", "x" * 512, "https://a.example/ü b", "/"])
def test_any_other_string_is_an_id(id: str) -> None:
    item = checked_item(URL, id, None)
    assert (item.id, item.refused) == (id, None)


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ([], "object"),
        ("x", "object"),
        (5, "object"),
        ({"_image": {}}, "`_image`"),
        ({"_": 1}, "`_`"),
        ({"a": float("nan")}, "finite"),
        ({"a": [{"b": float("-inf")}]}, "finite"),
        ({"a": 2**63}, "64 bits"),
        ({"a": -(2**63) - 1}, "64 bits"),
        (nested(17), "deeper"),
    ],
)
def test_a_payload_that_cannot_be_kept_is_a_failure_row(payload: Any, word: str) -> None:
    refusal = payload_refusal(payload)
    assert refusal is not None
    assert refusal.code == "payload_invalid"
    assert word in refusal.detail


@pytest.mark.parametrize(
    "payload", [None, {}, {"a": {"_b": 1}}, {"a": -(2**63), "b": True}, {"": "x"}, nested(16)]
)
def test_any_other_payload_is_kept(payload: Any) -> None:
    assert payload_refusal(payload) is None
    assert checked_item(URL, None, payload).payload == (payload or {})

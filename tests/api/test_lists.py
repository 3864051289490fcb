"""api/lists.py through POST …/jobs: NDJSON and JSON bodies."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import Item
from tests.api.conftest import assert_problem

Accepted = Callable[[TestResponse], list[Item]]
JOBS = "/v1/collections/shop/jobs"
NDJSON = "application/x-ndjson"
GOOD = '{"url":"http://a.example/1.jpg"}'


def post_lines(client: FlaskClient, *lines: str | bytes) -> TestResponse:
    body = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    return client.post(JOBS, data=body, content_type=NDJSON)


def post_json(client: FlaskClient, body: bytes | str) -> TestResponse:
    return client.post(JOBS, data=body, content_type="application/json")


def test_each_line_is_an_item(client: FlaskClient, accepted: Accepted) -> None:
    response = post_lines(
        client, '{"url":"http://a.example/1.jpg","id":"x","payload":{"né":[1,null,2.5]}}', "", GOOD
    )
    assert accepted(response) == [
        Item(id="x", url="http://a.example/1.jpg", payload={"né": [1, None, 2.5]}),
        Item(id="http://a.example/1.jpg", url="http://a.example/1.jpg"),
    ]


def test_json_lists_are_read_item_by_item(client: FlaskClient, accepted: Accepted) -> None:
    payload = {"a": {"b": [1, 2.5, True, None, "é", {}]}, "empty": []}
    items = [{"url": f"http://a.example/{n}", "id": f"i{n}", "payload": payload} for n in range(200)]
    read = accepted(client.post(JOBS, json={"items": items}))
    assert [item.model_dump(exclude_defaults=True) for item in read] == items


@pytest.mark.parametrize("kind", [NDJSON, "application/jsonl", "application/x-ndjson; charset=utf-8"])
def test_a_byte_order_mark_is_passed_over(client: FlaskClient, accepted: Accepted, kind: str) -> None:
    response = client.post(JOBS, data=b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n", content_type=kind)
    assert len(accepted(response)) == 1


def test_a_byte_order_mark_before_json_is_passed_over(client: FlaskClient, accepted: Accepted) -> None:
    assert len(accepted(post_json(client, b'\xef\xbb\xbf{"items":[' + GOOD.encode() + b"]}"))) == 1


@pytest.mark.parametrize(
    ("line", "status", "code", "word"),
    [
        ("{", 400, "invalid_body", "not JSON"),
        (b'{"url":"\xff"}', 400, "invalid_body", "UTF-8"),
        ('{"url":"\\ud800"}', 400, "invalid_body", "surrogate"),
        ("[" * 100_000, 400, "invalid_body", "nested too deep"),
        ('{"url":"http://a"} {"url":"http://b"}', 400, "invalid_body", "not JSON"),
        ("[]", 422, "invalid_item", "must be an object"),
        ('"http://a.example/1.jpg"', 422, "invalid_item", "must be an object"),
        ("{}", 422, "invalid_item", "`url` is missing"),
        ('{"url":5}', 422, "invalid_item", "`url` must be a string"),
        ('{"url":null}', 422, "invalid_item", "`url` must be a string"),
        ('{"url":"http://a","dx":"mel"}', 422, "invalid_item", "`dx`"),
        ('{"url":"http://a","callback_url":"http://b"}', 422, "not_implemented", "`callback_url`"),
        ('{"url":"http://a","id":"' + "x" * 2**20 + '"}', 422, "invalid_item", "longer than"),
    ],
)
def test_a_line_that_is_no_item_is_named(
    client: FlaskClient, line: str | bytes, status: int, code: str, word: str
) -> None:
    problem = assert_problem(post_lines(client, GOOD, "", line), status, code, word)
    assert code == "not_implemented" or problem["detail"].startswith("Line 3")


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        ("[]", 400, "invalid_body", "must be an object"),
        ('{"item":[]}', 400, "invalid_body", "`item`"),
        ('{"items":{"item":[{"url":"http://a"}]}}', 400, "invalid_body", "must be a list"),
        ('{"items":null}', 400, "invalid_body", "must be a list"),
        ('{"items":[%s],"items":[]}', 400, "invalid_body", "`items`"),
        ('{"items":[%s],"callback_url":"http://b"}', 422, "not_implemented", "`callback_url`"),
        ('{"callback_url":"http://b","items":[%s]}', 422, "not_implemented", "`callback_url`"),
        ('{"items":[%s', 400, "invalid_body", "after 1 items"),
        ('{"items":[%s]} x', 400, "invalid_body", "not JSON"),
        ('{"items":[%s,{"url":"http://a","payload":{"n":NaN}}]}', 400, "invalid_body", "not JSON"),
        ('{"items":[%s,7]}', 422, "invalid_item", "Item 2"),
        ('{"items":[%s,{"url":"http://a","x":1}]}', 422, "invalid_item", "Item 2"),
        ('{"items":[%s,' + '{"a":' * 100_000, 400, "invalid_body", "nested too deep"),
        ('{"items":[%s,{"url":"http://a","id":"' + "x" * 2_000_000 + '"}]}', 422, "invalid_item", "Item 2"),
    ],
)
def test_json_that_is_no_list_of_items_is_refused(
    client: FlaskClient, body: str, status: int, code: str, word: str
) -> None:
    assert_problem(post_json(client, body.replace("%s", GOOD)), status, code, word)


@pytest.mark.parametrize("body", ["", '{"items":[]}', "{}"])
def test_json_without_items_is_refused(client: FlaskClient, body: str) -> None:
    assert_problem(post_json(client, body), 422, "invalid_body", "holds no items")


@pytest.mark.parametrize("body", ["", "\n\n", "\r\n  \n"])
def test_lines_without_items_are_refused(client: FlaskClient, body: str) -> None:
    assert_problem(post_lines(client, body), 422, "invalid_body", "holds no items")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data", None])
def test_other_content_types_are_refused(client: FlaskClient, kind: str | None) -> None:
    response = client.post(JOBS, data=GOOD, content_type=kind)
    assert_problem(response, 415, "unsupported_media_type", "text/csv")


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    response = client.post(JOBS, data=GOOD, content_type=NDJSON, headers={"Content-Encoding": "gzip"})
    assert_problem(response, 415, "unsupported_media_type", "compressed")


def test_the_longest_line_that_is_allowed_passes(
    client_with: Callable[..., FlaskClient], accepted: Accepted
) -> None:
    line = json.dumps({"url": "http://a.example/1.jpg", "payload": {"x": ""}})
    line = line.replace('"x": ""', '"x": "' + "y" * (2048 - len(line)) + '"')
    assert len(accepted(post_lines(client_with(max_item_bytes=2048), line, line + "\r", GOOD))) == 3
    assert_problem(post_lines(client_with(max_item_bytes=2047), line), 422, "invalid_item", "Line 1")


@pytest.mark.parametrize("number", ["99999999999999999999", "1e999"])
def test_a_number_that_no_engine_holds_is_its_lines_fault(
    client: FlaskClient, accepted: Accepted, number: str
) -> None:
    body = '{"url":"http://a.example/","payload":{"n":NUMBER}}\n{"url":"http://b.example/"}\n'
    bad, fine = accepted(client.post(JOBS, data=body.replace("NUMBER", number), content_type=NDJSON))
    assert bad.refused is not None
    assert bad.refused.code == "payload_invalid"
    assert fine.refused is None

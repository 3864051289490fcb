"""api/app.py and api/problems.py: what every answer has in common."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.problems import problem
from shared.contract import GET_IMAGE, PUT_COLLECTION, Item
from shared.errors import FailureCode, RequestCode
from tests.api.conftest import Workers, assert_problem

JOB = "/v1/jobs/job_00000000000000000000"


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/v1", "/v1/jobs/", "/v1/collections/a/b", "/v1/jobs/x/events"]
)
def test_an_unknown_route_is_a_problem(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path), 404, "not_found", "/openapi.json")


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: FlaskClient) -> None:
    response = client.post("/v1/jobs")
    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


def test_a_request_id_is_echoed(client: FlaskClient) -> None:
    response = client.get(JOB, headers={"X-Request-Id": "abc-1.2:3_x"})
    assert response.headers["X-Request-Id"] == "abc-1.2:3_x"
    assert response.json["request_id"] == "abc-1.2:3_x"


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", 'a"b', "ü"])
def test_a_request_id_is_made_where_none_can_be_echoed(client: FlaskClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    assert re.fullmatch(r"[0-9a-f]{32}", client.get("/livez", headers=headers).headers["X-Request-Id"])


@pytest.mark.parametrize("path", ["/livez", "/nothing", "/openapi.json", "/docs", "/docs/", JOB])
def test_no_answer_is_guessed_at_framed_or_referred_to(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/livez", "/nothing", JOB, "/docs/oauth2-redirect.html"])
def test_what_is_no_page_of_ours_may_do_nothing_in_a_browser(client: FlaskClient, path: str) -> None:
    policy = client.get(path).headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"


HOSTILE = [
    "../../etc/passwd", "/etc/passwd", "..", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\x00b",
    "a\r\nSet-Cookie: x=1", "%0d%0aX: y", "C:\\x", "\u202egnp.exe", "'; DROP TABLE x; --", "{{7*7}}", "x" * 512,
    "\U0001f600",
]  # fmt: skip

ONE_LINE = [word for word in HOSTILE if "\n" not in word]


@pytest.mark.parametrize("id", HOSTILE)
def test_an_id_is_never_a_path_a_header_or_markup(
    client: FlaskClient, accepted: Callable[..., list[Item]], id: str
) -> None:
    response = client.post(
        "/v1/collections/shop/jobs",
        json={"items": [{"url": "http://a.example/", "id": id, "payload": {id: id}}]},
    )
    assert re.fullmatch(r"/v1/jobs/job_[0-9a-f]{20}", response.headers["Location"])
    assert accepted(response) == [Item(id=id, url="http://a.example/", payload={id: id})]


@pytest.mark.parametrize("id", ONE_LINE)
def test_an_id_comes_back_as_data(client: FlaskClient, workers: Workers, id: str) -> None:
    workers.answer(GET_IMAGE, {"ok": {"id": id, "url": None, "payload": {}}})
    response = client.get(f"/v1/collections/shop/images/{quote(id, safe='')}")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json["id"] == id
    assert workers.calls == [(GET_IMAGE.name, "shop", id)]
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("name", [*HOSTILE, "a\n", "ü", "-a"])
def test_a_collections_name_is_a_plain_word(client: FlaskClient, name: str) -> None:
    response = client.get(f"/v1/collections/{quote(name, safe='')}")
    assert response.status_code in (404, 422)
    assert_problem(response, response.status_code, response.json["code"])


@pytest.mark.parametrize("name", ONE_LINE)
def test_an_uploads_file_name_is_of_no_consequence(
    client: FlaskClient, accepted: Callable[..., list[Item]], name: str
) -> None:
    response = client.post("/v1/collections/shop/images", data={"image": (io.BytesIO(b"x"), name)})
    [item] = accepted(response)
    assert item.id == f"sha256:{hashlib.sha256(b'x').hexdigest()}"


def test_a_page_does_not_repeat_what_it_was_asked_under(client: FlaskClient) -> None:
    assert "evil" not in client.get("/docs?evil", headers={"Host": "evil.example"}).text


def test_what_nobody_foresaw_is_logged_and_not_told(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/boom")
    def boom() -> None:
        raise ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR):
        response = client.get("/boom")
    problem = assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    [record] = [record for record in caplog.records if record.name == "lookalike.api"]
    assert record.request == problem["request_id"]  # type: ignore[attr-defined]
    assert record.exc_info is not None


@pytest.mark.parametrize("code", list(RequestCode))
def test_every_code_of_a_request_has_a_status(code: RequestCode) -> None:
    assert 400 <= problem(code, "why")["status"] < 600


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_pictures_fault_is_unprocessable(code: FailureCode) -> None:
    assert problem(code, "why")["status"] == 422


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/collections/shop/jobs", {"items": [{"url": "http://a.example"}]}),
        ("GET", "/v1/jobs", None),
        ("GET", JOB, None),
        ("GET", "/v1/collections", None),
        ("DELETE", "/v1/collections/shop", None),
        ("POST", "/v1/collections/shop/searches", {"id": "x"}),
        ("GET", "/v1/searches/x", None),
        ("GET", "/readyz", None),
    ],
)
def test_a_broker_that_is_away_is_said_at_once(
    client_with: Callable[..., FlaskClient], method: str, path: str, body: object
) -> None:
    client = client_with(redis_url="redis://127.0.0.1:1/0")  # a port that refuses
    response = client.open(path, method=method, json=body)
    assert_problem(response, 503, "queue_unavailable", "Redis")
    assert response.headers["Retry-After"] == "5"


NASTY = [
    b"", b"\x00", b"\xff\xfe\xfd", b"{", b"[]", b"null", b'""', b"0", b"{}", b'{"items":', b'{"items":[[]]}',
    b'{"items":[{"url":{}}]}', b'{"items":[{"url":"http://a","payload":{"\\ud800":"\\udfff"}}]}', b"[" * 200_000,
    b'{"a":' * 200_000, b'{"vector":[1e999]}', b'{"vector":[' + b"9" * 5000 + b"]}", b'{"limit":1e999,"id":"x"}',
    b'{"filter":{"must":' * 5000, b'{"id":"\\u0000"}', b"--x\r\n\r\n--x--", b'--x\r\nContent-Disposition: form-data;'
    b' name="image"; filename="\xff\r\n\r\n', b"url\n\x00\n", b'url\n"', b",,,\n,,,\n", b"url,_x\nhttp://a,1\n",
    b'{"url":"http://a","id":"\\ud83d\\ude00"}', b"\n" * 1000, b"\r\r\r", b"\xef\xbb\xbf",
    b"\xef\xbb\xbf\xef\xbb\xbf{}", b'{"items":[{"url":"http://a","id":"\\udfff"}]}',
    b'{"items":[' + b"9" * 5000 + b"]}",
]  # fmt: skip
KINDS = [
    "application/json", "application/x-ndjson", "text/csv", "text/csv; charset=utf-16", "multipart/form-data",
    "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "", "nonsense", "a/b; c=\x00",
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/collections/shop/jobs"),
        ("POST", "/v1/collections/shop/jobs?separator=|&url_column=%FF&id_column=%00"),
        ("POST", "/v1/collections/shop/images"),
        ("POST", "/v1/collections/shop/searches"),
        ("PUT", "/v1/collections/shop"),
    ],
)
def test_no_body_breaks_the_server(client: FlaskClient, workers: Workers, method: str, path: str) -> None:
    workers.answer(PUT_COLLECTION, {"error": {"code": "model_conflict", "detail": "It stands."}})
    for kind in KINDS:
        for body in NASTY:
            response = client.open(path, method=method, data=body, content_type=kind)
            if response.status_code == 202:
                continue
            assert 400 <= response.status_code < 500, (kind, body[:60], response.text)
            assert_problem(response, response.status_code, response.json["code"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?limit=%00&cursor=%FF", "/v1/jobs/%00", "/v1/searches/%0A%FF", "/v1/collections/%2F",
        "/v1/collections/..",
        "/v1/collections/shop/images?filter=%7B", "/v1/collections/shop/images?filter=%FF", "/v1//jobs", "//", "/%",
        "/v1/collections/shop/facets/x?limit=9999999999", "/docs/../../etc/passwd", "/docs/%2e%2e/app.py",
    ],
)  # fmt: skip
def test_no_address_breaks_the_server(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert_problem(response, response.status_code, response.json["code"])
    assert 400 <= response.status_code < 500

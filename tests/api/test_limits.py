"""The limits on what a client may send, each over real HTTP and a little too far."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from api import limits
from tests.api.test_server import serving_over_tcp

KIB = 1024
ITEM = {"url": "http://a.example/"}


@pytest.fixture(scope="module")
def shop(redis_url: str) -> Iterator[str]:
    """The URL of a collection of an API that takes little."""
    small = {
        "LOOKALIKE_MAX_BODY_BYTES": str(8 * 2**20),
        "LOOKALIKE_MAX_ITEM_BYTES": str(2 * KIB),
        "LOOKALIKE_MAX_IMAGES_PER_UPLOAD": "3",
        "LOOKALIKE_FETCH_MAX_BYTES": str(4 * KIB),
    }
    with serving_over_tcp(redis_url, **small) as url:
        yield f"{url}/v1/collections/shop"


def assert_refused(answer: requests.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), (
        answer.text
    )
    assert answer.json()["code"] == code, answer.text


def send(url: str, kind: str, body: object) -> requests.Response:
    return requests.post(url, data=body, headers={"Content-Type": kind}, timeout=30)


def nested(depth: int) -> bytes:
    return b'{"items":[{"url":"http://a.example/","payload":{"a":' + b"[" * depth + b"]" * depth + b"}}]}"


def test_a_body_over_the_cap_is_refused_whether_its_length_is_told_or_not(shop: str) -> None:
    line = json.dumps(ITEM).encode() + b"\n"
    whole = line * (9 * 2**20 // len(line))
    for body in (whole, iter([whole[: 4 * 2**20], whole[4 * 2**20 :]])):
        assert_refused(send(f"{shop}/jobs", "application/x-ndjson", body), 413, "body_too_large")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-ndjson", b'{"url":"http://a.example/' + b"x" * 3 * KIB + b'"}\n'),
        ("application/json", b'{"items":[{"url":"http://a.example/' + b"x" * 2**20 + b'"}]}'),
        ("text/csv", b'url\n"http://a.example/' + b"\n" * 3 * KIB + b'"\n'),
    ],
)
def test_an_item_over_the_cap_is_refused(shop: str, kind: str, body: bytes) -> None:
    assert_refused(send(f"{shop}/jobs", kind, body), 422, "invalid_item")


def test_a_body_that_is_read_whole_has_its_own_cap(shop: str) -> None:
    body = b'{"vector":[' + b"0," * 2**21 + b"0]}"
    assert len(body) > limits.MAX_JSON_BYTES
    assert_refused(send(f"{shop}/searches", "application/json", body), 413, "body_too_large")


@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b'{"items":' + b"[" * 10_000, nested(900), b'{"a":' * 10_000]
)
@pytest.mark.parametrize("door", ["jobs", "searches"])
def test_deep_nesting_is_refused(shop: str, door: str, body: bytes) -> None:
    answer = send(f"{shop}/{door}", "application/json", body)
    assert answer.status_code in (400, 422)
    assert_refused(answer, answer.status_code, answer.json()["code"])


def test_a_payload_a_little_too_deep_fails_by_itself(shop: str) -> None:
    answer = send(f"{shop}/jobs", "application/json", nested(limits.MAX_PAYLOAD_DEPTH + 1))
    assert answer.status_code == 202


def test_more_images_than_allowed_are_refused(shop: str) -> None:
    files = [("image", (f"{number}.jpg", b"x")) for number in range(4)]
    assert_refused(requests.post(f"{shop}/images", files=files, timeout=30), 413, "body_too_large")


def test_an_image_over_the_cap_is_refused(shop: str) -> None:
    files = {"image": ("1.jpg", b"x" * 5 * KIB)}
    assert_refused(requests.post(f"{shop}/images", files=files, timeout=30), 413, "body_too_large")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(f"f{number}", (None, "x")) for number in range(100)], id="many fields"),
        pytest.param([("f", (None, "x"))] * 10_000, id="one field many times"),
        pytest.param([("payload", (None, "x" * 5 * 2**20))], id="a large field"),
    ],
)
def test_forms_that_are_too_much_are_refused(shop: str, parts: list[tuple[str, tuple[None, str]]]) -> None:
    image = ("image", ("1.jpg", b"x"))
    answer = requests.post(f"{shop}/images", files=[image, *parts], timeout=30)
    assert_refused(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        pytest.param(
            "x", b"--x\r\n" + b"A: " + b"b" * 2**20 + b"\r\n\r\n--x--", id="a huge header of a part"
        ),
        pytest.param("x", b"--x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n\r\n--x--", id="many headers of a part"),
        pytest.param("x", b"\r\n" * 2**20, id="no boundary ever comes"),
        pytest.param("x" * 5_000, b"--" + b"x" * 5_000, id="a huge boundary"),
        pytest.param("x", b"--x\r\n" * 100_000, id="boundaries only"),
        pytest.param("x", b"\r\n--" * 2**20, id="almost boundaries"),
        pytest.param("", b"--\r\n", id="an empty boundary"),
        pytest.param("x", b'--x\r\nContent-Disposition: form-data; name="image"; filename="', id="cut off"),
        pytest.param("x", b"", id="nothing"),
        pytest.param(
            "x",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\na\r\n'
            b'--x\r\nContent-Disposition: form-data; name="\\"\r\n\r\na\r\n--x--',
            id="a part without a name",
        ),
    ],
)
def test_multipart_nonsense_is_refused(shop: str, boundary: str, body: bytes) -> None:
    answer = send(f"{shop}/images", f"multipart/form-data; boundary={boundary}", body)
    assert 400 <= answer.status_code < 500, answer.text
    assert_refused(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("filter=" + "x" * 9_000, 414),
        ("filter=" + "%7B" * 2_000, 422),
        ("limit=" + "9" * 5_000, 422),
        ("cursor=" + "x" * 5_000, 422),
    ],
)
def test_a_query_string_that_is_too_much_is_refused(shop: str, query: str, status: int) -> None:
    answer = requests.get(f"{shop}/images?{query}", timeout=30)
    assert_refused(answer, status, answer.json()["code"])

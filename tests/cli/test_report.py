from __future__ import annotations

import csv

import pytest

from tests.cli.collection import image, serve


@pytest.fixture
def shop(api, answer):
    small = {"_image": {"width": 200, "height": 900}}
    images = [
        image("p1#1", [1, 0], bytes_=b"placeholder", group="p1"),
        image("p2#1", [1, 0], bytes_=b"placeholder", group="p2"),
        image("p3#1", [1, 0], bytes_=b"placeholder", group="p3"),
        image("p3#2", [0, 1], bytes_=b"view", group="p3"),
        image("p4#1", [0, 1], bytes_=b"view", group="p4", **small),
        image("p5#1", [0, 1], group="p5"),
    ]
    serve(api, answer, "shop", images)
    failed = {"retryable": False, "attempts": 1}
    rows = [
        {"id": "p6#1", "url": "", "code": "bad_url", "detail": "The URL is empty.", **failed},
        {"id": "p5#2", "url": "http://x.example/2", "code": "http_status", "detail": "=404", **failed},
    ]
    api.on("GET", "/v1/jobs/j1/failures", answer({"failures": rows, "next_cursor": None}))
    return api


@pytest.fixture
def rows(shop, run, tmp_path):
    file = tmp_path / "report.csv"
    result = run("report", "shop", "--job", "j1", "--min-side", "300", "--csv", str(file))
    assert result.exit_code == 0, result.output
    return {(row["kind"], row["id"]): row for row in csv.DictReader(file.open(newline=""))}


def test_only_what_has_a_flaw_gets_a_row(rows):
    assert ("item", "p5#1") not in rows
    assert ("item", "p5#2") in rows


def test_the_same_bytes_under_three_products_are_a_placeholder(rows):
    assert [rows["item", f"p{n}#1"]["placeholder"] for n in (1, 2, 3)] == ["1", "1", "1"]
    assert rows["item", "p4#1"]["placeholder"] == "0"
    assert rows["product", "p1"]["placeholder"] == "1"


def test_a_picture_of_another_product_is_named(rows):
    assert rows["item", "p4#1"]["duplicate_of"] == "p3#2"
    assert rows["product", "p4"]["duplicate_of"] == "p3"


def test_a_short_side_is_too_small(rows):
    assert rows["item", "p4#1"]["too_small"] == "1"
    assert rows["product", "p4"]["too_small"] == "1"


def test_what_failed_is_missing_or_broken_with_its_words(rows):
    assert (rows["item", "p6#1"]["missing"], rows["item", "p6#1"]["broken"]) == ("1", "0")
    assert rows["product", "p6"]["missing"] == "1"
    broken = rows["item", "p5#2"]
    assert (broken["broken"], broken["code"]) == ("1", "http_status")
    assert broken["detail"] == "'=404", "a spreadsheet would run it"
    assert rows["product", "p5"]["broken"] == "1"

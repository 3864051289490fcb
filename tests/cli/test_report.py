from __future__ import annotations

import csv
import json

import pytest

from tests.cli.collection import image, serve


def failure(id, url, code="http_status", detail="404 Not Found"):
    return {"id": id, "url": url, "code": code, "detail": detail, "retryable": False, "attempts": 1}


@pytest.fixture
def shop(api, answer):
    """Products p1 to p5 and what of them failed."""
    small = {"width": 200, "height": 640}
    images = [
        image("p1#1", (1, 0), url="http://a.example/1", bytes_=b"one", group="p1"),
        image("p1#2", (1, 0), url="http://a.example/2", bytes_=b"two", group="p1", _image=small),
        image("p1#3", (1, 0), bytes_=b"soon", group="p1"),
        image("p2#1", (1, 0), bytes_=b"one", group="p2"),
        image("p2#2", (1, 0), bytes_=b"soon", group="p2"),
        image("p3#1", (1, 0), bytes_=b"soon", group="p3"),
        image("lone", (1, 0), bytes_=b"two"),
        image("fine", (1, 0)),
    ]
    serve(api, answer, "shop", images)
    rows = [
        failure("p4#1", "", "bad_url", "The URL is empty."),
        failure("p5#1", "http://a.example/gone"),
        failure("p1#1", "http://a.example/new", detail="=cmd"),
    ]
    api.on("GET", "/v1/jobs/j1/failures", answer({"failures": rows, "next_cursor": None}))
    return api


@pytest.fixture
def rows(shop, run):
    """What `report --json` says, by kind and id."""
    lines = run("report", "shop", "--job", "j1", "--json").stdout.splitlines()
    return {(row["kind"], row["id"]): row for row in map(json.loads, lines)}


def test_an_empty_url_is_missing_and_any_other_failure_is_broken(rows):
    assert (rows["item", "p4#1"]["missing"], rows["item", "p4#1"]["broken"]) == (1, 0)
    gone = rows["item", "p5#1"]
    assert (gone["missing"], gone["broken"]) == (0, 1)
    assert (gone["code"], gone["detail"], gone["url"]) == (
        "http_status",
        "404 Not Found",
        "http://a.example/gone",
    )


def test_an_image_that_stands_is_broken_where_its_newer_one_did_not_come(rows):
    row = rows["item", "p1#1"]
    assert (row["broken"], row["url"]) == (1, "http://a.example/new")
    assert row["sha256"]


def test_a_product_without_any_image_is_missing(rows):
    assert rows["product", "p4"]["missing"] == rows["product", "p5"]["missing"] == 1
    assert rows["product", "p1"]["missing"] == 0


def test_too_small_is_by_the_shorter_side(rows):
    assert [id for (kind, id), row in rows.items() if row["too_small"] and kind == "item"] == ["p1#2"]
    assert rows["product", "p1"]["too_small"] == 1


def test_how_small_is_too_small_is_for_a_person_to_say(shop, run):
    assert '"too_small": 1' not in run("report", "shop", "--min-side", "200", "--json").stdout


def test_the_same_bytes_are_duplicates_of_the_first_id(rows):
    assert rows["item", "p2#1"]["duplicate_of"] == "p1#1"
    assert rows["item", "p1#2"]["duplicate_of"] == "lone"
    assert ("item", "lone") not in rows
    assert rows["product", "p2"]["duplicate_of"] == "p1"


def test_the_same_bytes_under_three_products_are_a_placeholder(rows):
    placeholders = {id for (kind, id), row in rows.items() if row["placeholder"] and kind == "item"}
    assert placeholders == {"p1#3", "p2#2", "p3#1"}
    assert rows["product", "p3"]["placeholder"] == 1
    assert rows["product", "p3"]["duplicate_of"] is None


def test_what_is_well_gets_no_row(rows):
    assert ("item", "fine") not in rows


def test_the_csv_has_a_row_each_and_quotes_formulas(shop, run, tmp_path):
    said = run("report", "shop", "--job", "j1", "--json", "--csv", str(tmp_path / "report.csv")).stdout
    with (tmp_path / "report.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["id"] for row in written] == [json.loads(line)["id"] for line in said.splitlines()]
    assert next(row for row in written if row["id"] == "p1#1")["detail"] == "'=cmd"


def test_the_summary_counts_items_and_products(shop, run):
    said = run("report", "shop", "--job", "j1").stdout
    counts = {line.rsplit(None, 2)[0].strip(): line.split()[-2:] for line in said.splitlines()[1:]}
    assert counts == {
        "missing": ["1", "2"],
        "broken": ["2", "2"],
        "too small": ["1", "1"],
        "placeholder": ["3", "3"],
        "duplicate of": ["4", "1"],
        "all": ["10", "5"],
    }


def test_without_a_job_it_says_what_it_cannot_know(shop, run):
    result = run("report", "shop")
    assert "name jobs with --job" in result.stderr
    assert not shop.sent("GET", "/v1/jobs/j1/failures")


def test_another_field_may_name_the_product(api, answer, run):
    serve(api, answer, "shop", [image(str(n), (1, 0), bytes_=b"x", sku=n // 2) for n in range(6)])
    lines = run("report", "shop", "--group", "sku", "--json").stdout.splitlines()
    assert [row["id"] for row in map(json.loads, lines) if row["kind"] == "product"] == ["0", "1", "2"]

from __future__ import annotations

import csv
import io
import json
from math import cos, radians, sin

import numpy as np
import pytest
from PIL import Image

from tests.cli.collection import image, serve


def at(degrees: float) -> tuple[float, float]:
    return cos(radians(degrees)), sin(radians(degrees))


SHOES = [
    image("c", at(2), url="http://a.example/c", bytes_=b"c", group="p2"),
    image("a", at(0), url="http://a.example/a", bytes_=b"a", group="p1"),
    image("d", at(2), bytes_=b"c", group="p2"),
    image("b", at(90), bytes_=b"b", group="p1"),
    image("e", at(91), bytes_=b"e", group="p1"),
    image("=f", at(200), bytes_=b"f"),
]


@pytest.fixture
def found(api, answer, run, tmp_path):
    """Run `duplicates`; its CSV as rows."""

    def duplicates(*arguments, images=SHOES):
        serve(api, answer, "shoes", images)
        result = run("duplicates", "shoes", "--out", str(tmp_path), *arguments)
        assert result.exit_code == 0, result.output
        with (tmp_path / "duplicates.csv").open(newline="") as file:
            return [dict(row) for row in csv.DictReader(file)]

    return duplicates


def test_sets_are_by_vector_and_by_bytes_across_ids_and_groups(found):
    rows = found("--threshold", "0.999")
    told = [(row["set"], row["id"], row["group"], row["similarity"], row["how"]) for row in rows]
    assert told == [
        ("1", "a", "p1", "1.0", ""),
        ("1", "c", "p2", "0.9994", "vector"),
        ("1", "d", "p2", "0.9994", "bytes"),
        ("2", "b", "p1", "1.0", ""),
        ("2", "e", "p1", "0.9998", "vector"),
    ]
    assert rows[0]["url"] == "http://a.example/a"
    assert rows[1]["sha256"] == rows[2]["sha256"] != rows[0]["sha256"]


def test_a_higher_threshold_leaves_those_of_the_same_bytes(found):
    assert [row["id"] for row in found("--threshold", "0.99999")] == ["c", "d"]


def test_what_hangs_together_through_a_third_is_one_set(found):
    images = [image(id, at(degrees)) for id, degrees in (("x", 0), ("y", 12), ("z", 24))]
    assert [row["id"] for row in found("--threshold", "0.97", images=images)] == ["x", "y", "z"]


def test_across_tells_only_of_sets_that_span_groups(found):
    assert {row["id"] for row in found("--threshold", "0.999", "--across", "group")} == {"a", "c", "d"}


def test_images_without_a_group_are_each_their_own(found):
    images = [image("a", at(0), bytes_=b"x"), image("b", at(0), bytes_=b"x")]
    assert len(found("--across", "group", images=images)) == 2


def test_a_formula_is_quoted(found):
    images = [image("=a", at(0), bytes_=b"x"), image("b", at(0), bytes_=b"x", group="+1")]
    rows = found(images=images)
    assert [row["id"] for row in rows] == ["'=a", "b"]
    assert rows[1]["group"] == "'+1"


def test_json_is_a_row_a_line(api, answer, run, tmp_path):
    serve(api, answer, "shoes", SHOES)
    lines = run(
        "duplicates", "shoes", "--threshold", "0.999", "--out", str(tmp_path), "--json"
    ).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "c", "d", "b", "e"]


def test_the_contact_sheet_shows_the_thumbnails(api, answer, found, tmp_path):
    webp = io.BytesIO()
    Image.new("RGB", (60, 40), "#00c800").save(webp, "WEBP")
    api.on("GET", "/v1/collections/shoes%403/images/a%2Fb%23%C3%BC/thumbnail", answer(webp.getvalue()))
    api.on("GET", "/v1/collections/shoes%403/images/broken/thumbnail", answer(b"no picture"))
    kept = {"thumbnail": True}
    images = [image(id, at(0), bytes_=b"x", _image=kept) for id in ("a/b#ü", "gone", "broken")]
    found(images=[*images, image("none", at(0), bytes_=b"x")])
    with Image.open(tmp_path / "duplicates.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    green = np.abs(pixels - (0, 200, 0)).max(axis=2) < 12
    assert 0.8 * 60 * 40 < green.sum() < 1.2 * 60 * 40
    asked = [one.path for one in api.received if one.path.endswith("/thumbnail")]
    assert len(asked) == 3  # `none` says itself that it has none


def test_no_duplicates_are_a_sheet_and_a_csv_without_rows(found, tmp_path):
    assert found(images=[image("a", at(0)), image("b", at(90))]) == []
    assert (tmp_path / "duplicates.png").exists()

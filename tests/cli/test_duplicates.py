from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from tests.cli.collection import image, serve

FAR, NEAR = [1.0, 0.0, 0.0], [0.0, float(np.cos(0.1)), float(np.sin(0.1))]


@pytest.fixture
def shop(api, answer):
    """b and d have the same bytes, c looks like them, a like nothing."""
    images = [
        image("d", [0.0, 1.0, 0.0], bytes_=b"same", group="p1", url="http://x.example/d"),
        image("c", NEAR, group="p2"),
        image("b", [0.0, 1.0, 0.0], bytes_=b"same", group="p1"),
        image("a", FAR, group="=HYPERLINK()"),
    ]
    serve(api, answer, "shop", images)
    return api


def rows(folder):
    return list(csv.DictReader((folder / "duplicates.csv").open(newline="")))


def test_images_of_the_same_bytes_or_near_vectors_are_one_set(shop, run, tmp_path):
    result = run("duplicates", "shop", "--threshold", "0.99", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert [(row["set"], row["id"], row["how"]) for row in rows(tmp_path)] == [
        ("1", "b", ""),
        ("1", "c", "vector"),
        ("1", "d", "bytes"),
    ]
    assert float(rows(tmp_path)[1]["similarity"]) == pytest.approx(np.cos(0.1), abs=1e-4)


def test_a_higher_threshold_leaves_those_of_the_same_bytes(shop, run, tmp_path):
    run("duplicates", "shop", "--threshold", "0.9999", "--out", str(tmp_path))
    assert [row["id"] for row in rows(tmp_path)] == ["b", "d"]


def test_across_a_field_a_set_of_one_value_is_none(shop, run, tmp_path):
    run("duplicates", "shop", "--threshold", "0.9999", "--across", "group", "--out", str(tmp_path))
    assert rows(tmp_path) == []


def test_across_a_field_a_set_of_several_values_stays(shop, run, tmp_path):
    run("duplicates", "shop", "--threshold", "0.99", "--across", "group", "--out", str(tmp_path))
    assert {row["group"] for row in rows(tmp_path)} == {"p1", "p2"}


def test_what_hangs_together_through_a_third_is_one_set(api, answer, run, tmp_path):
    turned = [[float(np.cos(angle)), float(np.sin(angle))] for angle in (0.0, 0.2, 0.4)]
    serve(api, answer, "shop", [image(id, vector) for id, vector in zip("xyz", turned, strict=True)])
    run("duplicates", "shop", "--threshold", "0.97", "--out", str(tmp_path))
    assert [row["id"] for row in rows(tmp_path)] == ["x", "y", "z"]


def test_the_sheet_is_drawn_though_no_thumbnail_is_kept(shop, run, tmp_path):
    run("duplicates", "shop", "--threshold", "0.99", "--out", str(tmp_path))
    with Image.open(tmp_path / "duplicates.png") as sheet:
        assert sheet.width > 200

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from tests.cli.collection import image, serve


def at(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


def evaluated(run: Any, folder: Path, *options: str) -> dict[str, Any]:
    result = run("evaluate", "skin", "--label", "dx", "--out", str(folder), *options)
    assert result.exit_code == 0, result.output
    return dict(json.loads((folder / "evaluation.json").read_text()))


def value(figures: dict[str, Any], measure: str) -> tuple[float, float]:
    return figures[measure]["value"], figures[measure]["chance"]


@pytest.fixture
def four(api, answer):
    """Two of each label on a quarter of a circle: only b1 has another label for its nearest."""
    places = {"a1": 0, "a2": 10, "b1": 25, "b2": 80}
    images = [
        image(id, at(degrees), dx=id[0], sex="f" if id != "b2" else "m") for id, degrees in places.items()
    ]
    serve(api, answer, "skin", images)
    return api


def test_a_case_counted_by_hand(four, run, tmp_path):
    found = evaluated(run, tmp_path)
    # a1: a2 first. a2: a1 first. b1: a2, a1, b2. b2: b1 first. One relevant of three candidates each.
    for mean in (found["micro"], found["macro"]):
        assert value(mean, "P@1") == (0.75, pytest.approx(1 / 3, abs=1e-6))
        assert value(mean, "P@5") == (0.2, 0.2)
        assert value(mean, "recall@1") == (0.75, pytest.approx(1 / 3, abs=1e-6))
        assert value(mean, "recall@5") == (1.0, 1.0)
        assert value(mean, "mAP") == (
            pytest.approx((1 + 1 + 1 / 3 + 1) / 4, abs=1e-6),
            pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=1e-6),
        )
    assert [(row["label"], row["images"], row["P@1"]["value"]) for row in found["classes"]] == [
        ("a", 2, 1.0),
        ("b", 2, 0.5),
    ]


def test_the_figures_are_those_of_scikit_learn(api, answer, run, tmp_path):
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels, groups = rng.integers(0, 4, 60), rng.integers(0, 15, 60)
    images = [image(f"i{n:02}", vectors[n], dx=f"d{labels[n]}", lesion=int(groups[n])) for n in range(60)]
    serve(api, answer, "skin", images)
    found = evaluated(run, tmp_path, "--group", "lesion")
    precision, average = [], []
    for n in range(60):
        others = np.flatnonzero(groups != groups[n])
        same = labels[others] == labels[n]
        average.append(average_precision_score(same, vectors[others] @ vectors[n]))
        nearest = NearestNeighbors(n_neighbors=5, metric="cosine").fit(vectors[others])
        [places] = nearest.kneighbors(vectors[n : n + 1], return_distance=False)
        precision.append(same[places].mean())
    by_class = [
        [figures[labels == label].mean() for label in range(4)]
        for figures in map(np.array, (precision, average))
    ]
    assert found["queries"] == 60
    assert found["micro"]["P@5"]["value"] == pytest.approx(np.mean(precision), abs=1e-6)
    assert found["micro"]["mAP"]["value"] == pytest.approx(np.mean(average), abs=1e-6)
    assert found["macro"]["P@5"]["value"] == pytest.approx(np.mean(by_class[0]), abs=1e-6)
    assert found["macro"]["mAP"]["value"] == pytest.approx(np.mean(by_class[1]), abs=1e-6)


def test_chance_is_what_random_orders_score(api, answer, run, tmp_path):
    rng = np.random.default_rng(1)
    labels = ["a"] * 3 + ["b"] * 5
    images = [image(f"i{n}", [1.0, 0.0], dx=label) for n, label in enumerate(labels)]
    serve(api, answer, "skin", images)
    found = evaluated(run, tmp_path)
    scores: list[list[float]] = []
    for _ in range(4000):
        query = int(rng.integers(8))
        order = rng.permutation([n for n in range(8) if n != query])
        hits = np.array([labels[n] == labels[query] for n in order])
        places = np.flatnonzero(hits) + 1
        scores.append([hits[:5].mean(), float(np.mean(np.arange(1, len(places) + 1) / places))])
    precision, average = np.mean(scores, axis=0)
    assert found["micro"]["P@5"]["chance"] == pytest.approx(precision, abs=0.02)
    assert found["micro"]["mAP"]["chance"] == pytest.approx(average, abs=0.02)


def test_images_of_the_same_group_never_answer(api, answer, run, tmp_path):
    images = [
        image("a1", at(0), dx="a", lesion=1),
        image("a2", at(1), dx="a", lesion=1),
        image("a3", at(60), dx="a", lesion=2),
        image("b1", at(30), dx="b", lesion=3),
        image("none", at(31), lesion=4),
    ]
    serve(api, answer, "skin", images)
    found = evaluated(run, tmp_path, "--group", "lesion")
    assert found["left_out"] == {"without_label": 1, "without_relevant_candidate": 1}
    assert found["queries"] == 3
    assert found["micro"]["P@1"]["value"] == 0  # b1 stands between the two lesions


def test_each_value_of_a_field_has_its_own_figures(four, run, tmp_path):
    found = evaluated(run, tmp_path, "--by", "sex")
    assert [
        (each["value"], each["queries"], each["micro"]["P@1"]["value"]) for each in found["by"]["sex"]
    ] == [
        ("f", 3, pytest.approx(2 / 3, abs=1e-6)),
        ("m", 1, 1.0),
    ]


def test_the_same_collection_gives_the_same_bytes_whatever_the_order(api, answer, run, tmp_path):
    images = [image(id, at(n * 40), dx=id[0]) for n, id in enumerate(("a1", "b1", "a2", "b2", "a3"))]
    told = []
    for number, order in enumerate((images, images[::-1])):
        serve(api, answer, "skin", order)
        folder = tmp_path / str(number)
        evaluated(run, folder)
        told.append([(folder / name).read_bytes() for name in ("evaluation.json", "evaluation.md")])
    assert told[0] == told[1]


def test_the_picture_and_the_page_are_written(four, run, tmp_path):
    evaluated(run, tmp_path)
    with Image.open(tmp_path / "evaluation.png") as picture:
        assert min(picture.size) > 300
    page = (tmp_path / "evaluation.md").read_text()
    assert "mAP" in page
    assert "0.75" in page


def test_labels_that_nobody_shares_leave_nothing_to_measure(api, answer, run, tmp_path):
    serve(api, answer, "skin", [image("a", at(0), dx="a"), image("b", at(9), dx="b")])
    result = run("evaluate", "skin", "--label", "dx", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "nothing to measure" in result.output

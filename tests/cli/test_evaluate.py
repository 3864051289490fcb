from __future__ import annotations

import json
from math import cos, radians, sin

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from tests.cli.collection import image, serve


def at(degrees: float) -> tuple[float, float]:
    return cos(radians(degrees)), sin(radians(degrees))


def moles(**more):
    """Six images on a circle; `a` and `b` are of one lesion."""
    return [
        image("a", at(0), dx="nv", lesion="l1", sex="f"),
        image("b", at(10), dx="nv", lesion="l1", sex="f"),
        image("c", at(20), dx="mel", lesion="l2", sex="m"),
        image("d", at(50), dx="mel", lesion="l3"),
        image("e", at(56), dx="nv", lesion="l4", sex="m"),
        image("f", at(58), dx="nv", lesion="l5", sex="m"),
    ]


@pytest.fixture
def evaluated(api, answer, run, tmp_path):
    """Run `evaluate` on images; what evaluation.json holds."""

    def evaluate(images, *arguments, label="dx"):
        serve(api, answer, "moles", images)
        result = run("evaluate", "moles", "--label", label, "--out", str(tmp_path / "out"), *arguments)
        assert result.exit_code == 0, result.output
        return json.loads((tmp_path / "out" / "evaluation.json").read_text())

    return evaluate


def test_figures_are_those_computed_by_hand(evaluated):
    # Rankings, the query's own lesion left out: a: c d e f, b: c d e f, c: b a d e f, d: e f c b a, e: f d c b a,
    # f: e d c b a. So average precision is 5/12, 5/12, 1/3, 1/3, 7/10, 7/10.
    result = evaluated(moles(), "--group", "lesion")
    micro, macro = result["micro"], result["macro"]
    assert micro["P@1"] == {
        "value": pytest.approx(2 / 6, abs=1e-6),
        "chance": pytest.approx(2.6 / 6, abs=1e-6),
    }
    assert macro["P@1"] == {"value": 0.25, "chance": pytest.approx((2.2 / 4 + 0.2) / 2)}
    assert micro["mAP"]["value"] == pytest.approx((5 / 6 + 2 / 3 + 7 / 5) / 6, abs=1e-6)
    assert macro["mAP"]["value"] == pytest.approx(((5 / 6 + 7 / 5) / 4 + 1 / 3) / 2, abs=1e-6)
    assert micro["P@5"]["value"] == pytest.approx((2 + 2 + 1 + 1 + 3 + 3) / 5 / 6)
    assert micro["recall@1"]["value"] == pytest.approx((1 / 3 + 1 / 3) / 6, abs=1e-6)
    assert micro["recall@5"] == {"value": 1.0, "chance": 1.0}
    mel, nv = result["classes"]
    assert (mel["label"], mel["images"], mel["queries"], mel["P@1"]["value"]) == ("mel", 2, 2, 0.0)
    assert (nv["label"], nv["images"], nv["queries"], nv["P@1"]["value"]) == ("nv", 4, 4, 0.5)


def test_the_figures_are_those_of_scikit_learn(evaluated):
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels, groups = rng.integers(0, 4, 60), rng.integers(0, 15, 60)
    images = [image(f"i{n:02}", vectors[n], dx=f"d{labels[n]}", lesion=int(groups[n])) for n in range(60)]
    found = evaluated(images, "--group", "lesion")
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


def test_chance_is_what_random_orders_score(evaluated):
    rng = np.random.default_rng(1)
    labels = ["a"] * 3 + ["b"] * 5
    images = [image(f"i{n}", [1.0, 0.0], dx=label) for n, label in enumerate(labels)]
    found = evaluated(images)
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


def test_the_confusion_is_by_the_majority_of_five_and_ties_are_the_nearests(evaluated):
    # a and b have c d e f before them: two of each, and c is the nearest.
    assert evaluated(moles(), "--group", "lesion")["confusion"] == [
        {"label": "mel", "nearest": "nv", "queries": 2},
        {"label": "nv", "nearest": "mel", "queries": 2},
        {"label": "nv", "nearest": "nv", "queries": 2},
    ]


def test_without_a_group_only_the_query_itself_is_left_out(evaluated):
    result = evaluated(moles())
    assert result["micro"]["P@1"]["value"] == pytest.approx(4 / 6, abs=1e-6)  # now a and b find each other
    assert result["group"] is None


def test_the_same_for_each_value_of_other_fields(evaluated):
    by = evaluated(moles(), "--group", "lesion", "--by", "sex,lesion")["by"]
    assert [(row["value"], row["queries"]) for row in by["sex"]] == [("f", 2), ("m", 3), (None, 1)]
    women = by["sex"][0]
    assert women["micro"]["mAP"]["value"] == pytest.approx(5 / 12, abs=1e-6)
    assert [row["label"] for row in by["sex"][1]["classes"]] == ["mel", "nv"]
    assert len(by["lesion"]) == 5


def test_what_has_no_label_or_no_other_of_its_label_is_counted_and_left_out(evaluated):
    more = [image("g", at(99), lesion="l9"), image("h", at(180), dx="bcc"), image("i", at(1), dx=None)]
    result = evaluated([*more, *moles()], "--group", "lesion")
    assert result["images"] == 7
    assert result["queries"] == 6
    assert result["left_out"] == {"without_label": 2, "without_relevant_candidate": 1}
    assert [row["label"] for row in result["classes"]] == ["mel", "nv"]


def test_the_same_collection_gives_the_same_bytes(api, answer, run, tmp_path):
    written = []
    for folder, images in (("one", moles()), ("two", moles()[::-1])):
        serve(api, answer, "moles", images)
        run("evaluate", "moles", "--label", "dx", "--by", "sex", "--out", str(tmp_path / folder))
        written.append(
            [(tmp_path / folder / f"evaluation.{kind}").read_bytes() for kind in ("json", "md", "png")]
        )
    assert written[0] == written[1]


def test_a_sample_asks_less_against_all(evaluated):
    result = evaluated(moles(), "--sample", "3")
    assert (result["images"], result["queries"], result["sample"]) == (6, 3, 3)
    assert result == evaluated(moles(), "--sample", "3")


def test_labels_may_be_numbers_and_truths(evaluated):
    images = [
        image(f"i{n}", at(n), malignant=n % 2 == 0, grade=n % 2 if n % 4 else float(n % 2)) for n in range(8)
    ]
    assert [row["label"] for row in evaluated(images, label="malignant")["classes"]] == ["false", "true"]
    assert [row["label"] for row in evaluated(images, label="grade")["classes"]] == ["0", "1"]


def test_the_page_and_the_picture_are_written(evaluated, tmp_path):
    images = moles()
    images[0]["payload"]["dx"] = images[1]["payload"]["dx"] = "a | b\n$c$"
    evaluated(images, "--by", "sex")
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert "| a \\| b $c$ | 2 | 2 | **1.000** |" in page
    for words in ("## By sex", "| (none) |", "## Taken for", "By chance".lower()):
        assert words in page
    with Image.open(tmp_path / "out" / "evaluation.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10


def test_of_many_labels_the_page_has_the_commonest_mistakes(evaluated, tmp_path):
    images = [image(f"i{n:02}", at(n), dx=f"label {n // 2:02}") for n in range(34)]
    assert len(evaluated(images)["classes"]) == 17
    assert "commonest mistakes" in (tmp_path / "out" / "evaluation.md").read_text()


def test_the_terminal_shows_the_figures(api, answer, run, tmp_path):
    serve(api, answer, "moles", moles())
    said = run("evaluate", "moles", "--label", "dx", "--group", "lesion", "--out", str(tmp_path)).stdout
    assert said.splitlines()[1].split() == ["P@1", "0.333", "0.433", "0.250", "0.375"]
    assert "6 queries against 6 images of 2 labels" in said


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "has no images"),
        ([image("a", at(0)), image("b", at(1))], "2 were looked at"),
        ([image("a", at(0), dx="x"), image("b", at(1), dx="y")], "nothing to measure"),
        ([image("a", at(0), dx=["x"]), image("b", at(1), dx="y")], "`dx` of image `a` is a list"),
    ],
)
def test_what_cannot_be_measured_is_said(api, answer, run, tmp_path, images, words):
    serve(api, answer, "moles", images)
    result = run("evaluate", "moles", "--label", "dx", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_server_that_sends_no_vectors_is_said(api, answer, run, tmp_path):
    without = [{key: value for key, value in one.items() if key != "vector"} for one in moles()]
    serve(api, answer, "moles", moles())
    api.on("GET", "/v1/collections/moles%403/images", answer({"images": without, "next_cursor": None}))
    result = run("evaluate", "moles", "--label", "dx", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "without a vector of 2 dimensions" in result.stderr


def test_the_filter_is_the_apis(api, answer, run, tmp_path):
    serve(api, answer, "moles", moles())
    condition = '{"must": [{"key": "sex", "match": {"value": "f"}}]}'
    run("evaluate", "moles", "--label", "dx", "--filter", condition, "--out", str(tmp_path))
    asked = api.sent("GET", "/v1/collections/moles%403/images")
    assert len(asked) == 2
    assert all("filter=%7B%22must%22" in one.query and "vectors=true" in one.query for one in asked)

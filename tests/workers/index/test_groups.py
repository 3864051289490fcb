"""workers/groups.py over every engine: groups are whole, counted, and their pages join."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError
from tests.workers.index.shop import CARD, image
from workers.groups import FoundGroup, Groups, index_group_field
from workers.index.interface import Index, Point
from workers.neighbours import Neighbours

DIMENSION = 8
FIRST = np.eye(DIMENSION, dtype=np.float32)[0]
_CARD = CARD.model_copy(update={"dimension": DIMENSION})


def catalogue(products: int, alike: int = 0, seed: int = 1) -> list[Point]:
    """`products` of one to nine views each, of which `alike` begin with the very same picture."""
    random = np.random.default_rng(seed)
    points = []
    for product in range(products):
        for view in range(1 + product * 7 % 9):
            vector = random.standard_normal(DIMENSION).astype(np.float32)
            if view == 0 and product < alike:
                vector = np.full(DIMENSION, 1, np.float32)
            vector /= np.linalg.norm(vector)
            points.append(image(f"{product}#{view}", vector, group=f"p{product}", view=view))
    return points


def put(index: Index, points: list[Point], field: str = "group", card: ModelCard = _CARD) -> None:
    index.create("shop", card)
    index.upsert("shop", points)
    collection = index.find("shop")
    assert collection is not None
    index_group_field(field, collection, index)


def best_groups(points: list[Point], least: float = -2.0) -> dict[str, list[tuple[float, str]]]:
    """What the answer must be: every group's views with their scores, both best first."""
    views = defaultdict(list)
    for point in points:
        assert point.vector is not None
        score = float(point.vector @ FIRST)
        if score >= least:
            views[point.payload["group"]].append((-score, point.id))
    ordered = sorted(views, key=lambda group: min(views[group]))
    return {group: sorted(views[group]) for group in ordered}


def all_pages(groups: Groups, limit: int, size: int = 1) -> list[FoundGroup]:
    found: list[FoundGroup] = []
    while page := groups.page(limit, len(found), size):
        found += page
        if len(page) < limit:
            break
    return found


def ids(groups: list[FoundGroup]) -> list[Any]:
    return [group.id for group in groups]


def test_groups_come_best_first_with_their_best_views_and_how_many_there_are(index: Index) -> None:
    points = catalogue(60)
    put(index, points)
    expected = best_groups(points)
    page = Groups(Neighbours(index, "shop", FIRST, exact=True), "group").page(10, 0, 3)
    assert ids(page) == list(expected)[:10]
    for group in page:
        views = expected[str(group.id)]
        assert group.count == len(views)
        assert [point.id for point in group.points] == [id for _, id in views[:3]]
        assert [point.score for point in group.points] == pytest.approx(
            [-score for score, _ in views[:3]], abs=1e-5
        )


@pytest.mark.parametrize("exact", [True, False])
def test_many_pages_join_without_gap_or_double(index: Index, exact: bool) -> None:
    points = catalogue(230)
    put(index, points)
    groups = Groups(Neighbours(index, "shop", FIRST, exact=exact), "group")
    found = ids(all_pages(groups, limit=7))
    assert sorted(found) == sorted(f"p{n}" for n in range(230))
    if exact:
        assert found == list(best_groups(points))
    assert found == ids(all_pages(groups, limit=100))


def test_pages_join_where_more_products_share_a_picture_than_a_round_takes(index: Index) -> None:
    put(index, catalogue(230, alike=170))
    found = ids(all_pages(Groups(Neighbours(index, "shop", FIRST), "group"), limit=11))
    assert sorted(found) == sorted(f"p{n}" for n in range(230))


def test_a_filter_and_a_threshold_count_too(index: Index) -> None:
    points = catalogue(60)
    put(index, points)
    filter = {"must": [{"key": "view", "range": {"gte": 1}}]}
    expected = best_groups([point for point in points if point.payload["view"] >= 1], least=0.1)
    groups = Groups(Neighbours(index, "shop", FIRST, filter, score_threshold=0.1, exact=True), "group")
    found = all_pages(groups, limit=100)
    assert {group.id: group.count for group in found} == {id: len(views) for id, views in expected.items()}
    assert ids(found) == list(expected)


def test_a_group_of_more_images_than_one_question_reads_is_counted_whole(index: Index) -> None:
    random = np.random.default_rng(2)
    vectors = random.standard_normal((2600, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    put(index, [image(str(n), vector, group=f"g{n % 2}") for n, vector in enumerate(vectors)])
    whole = Groups(Neighbours(index, "shop", FIRST, exact=True), "group").page(5, 0, 4)
    assert {group.id: group.count for group in whole} == {"g0": 1300, "g1": 1300}
    assert [len(group.points) for group in whole] == [4, 4]
    near = Groups(Neighbours(index, "shop", FIRST, score_threshold=0.2, exact=True), "group").page(5, 0, 1)
    matching = vectors @ FIRST >= 0.2
    assert {group.id: group.count for group in near} == {f"g{n}": int(matching[n::2].sum()) for n in (0, 1)}


def test_images_without_the_field_are_in_no_group(index: Index) -> None:
    put(
        index,
        [image("a", FIRST, group="x"), image("b", FIRST), image("c", FIRST, group=None), image("d", FIRST)],
    )
    page = Groups(Neighbours(index, "shop", FIRST), "group").page(10, 0, 5)
    assert [(group.id, group.count) for group in page] == [("x", 1)]


@pytest.mark.parametrize("values", [["a", "b", "a"], [7, -3, 7], [True, False, True]])
def test_words_whole_numbers_and_truth_values_make_groups(index: Index, values: list[Any]) -> None:
    points = [
        image(f"i{n}", FIRST + n * np.eye(DIMENSION)[1] / 9, of=value) for n, value in enumerate(values)
    ]
    put(index, points, "of")
    page = Groups(Neighbours(index, "shop", FIRST), "of").page(10, 0, 5)
    assert [(group.id, group.count) for group in page] == [(values[0], 2), (values[1], 1)]
    assert [type(group.id) for group in page] == [type(values[0])] * 2


@pytest.mark.parametrize(
    ("path", "payload"), [("of.it", {"of": {"it": "x"}}), ('"Uniq Id"', {"Uniq Id": "x"})]
)
def test_a_field_inside_another_and_one_with_a_space_make_groups(
    index: Index, path: str, payload: dict[str, Any]
) -> None:
    put(index, [image("a", FIRST, **payload), image("b", FIRST, **payload)], path)
    page = Groups(Neighbours(index, "shop", FIRST), path).page(10, 0, 1)
    assert [(group.id, group.count) for group in page] == [("x", 2)]
    standing = index.find("shop")
    assert standing is not None
    assert standing.indexes == {path: "keyword"}


def test_an_image_of_several_values_is_in_the_group_of_each(index: Index) -> None:
    values = [["a", "b", "a"], "a", ["c", "b"], ["d", 1.5]]
    points = [
        image(f"i{n}", FIRST + n * np.eye(DIMENSION)[1] / 9, of=value) for n, value in enumerate(values)
    ]
    put(index, points, "of")
    page = Groups(Neighbours(index, "shop", FIRST, exact=True), "of").page(10, 0, 5)
    views = {group.id: [point.id for point in group.points] for group in page}
    assert views == {"a": ["i0", "i1"], "b": ["i0", "i2"], "c": ["i2"], "d": ["i3"]}
    assert [group.count for group in page] == [2, 2, 1, 1]


@pytest.mark.parametrize("images", [150, 250])
def test_a_group_is_the_same_however_many_images_of_several_values_it_has(index: Index, images: int) -> None:
    """A question reads 200 images: a group of more is counted in another way."""
    points = [
        image(str(n), FIRST + n * np.eye(DIMENSION)[1] / 99, of=["a", f"b{n % 2}"] if n % 10 == 0 else "a")
        for n in range(images)
    ]
    put(index, points, "of")
    page = Groups(Neighbours(index, "shop", FIRST, exact=True), "of").page(10, 0, 2)
    assert [(group.id, group.count) for group in page] == [("a", images), ("b0", images // 10)]
    assert [point.id for point in page[0].points] == ["0", "1"]
    near = Neighbours(index, "shop", FIRST, score_threshold=0.99, exact=True)
    assert Groups(near, "of").page(1, 0, 1)[0].count == len(near.nearest(images))


def test_a_value_that_stands_only_beside_one_that_is_found_makes_a_group(index: Index) -> None:
    points = [
        image(str(n), FIRST + n * np.eye(DIMENSION)[1] / 99, of=["all", f"g{n // 150}"]) for n in range(450)
    ]
    put(index, points, "of")
    page = Groups(Neighbours(index, "shop", FIRST, exact=True), "of").page(10, 0, 1)
    assert {group.id: group.count for group in page} == {"all": 450, "g0": 150, "g1": 150, "g2": 150}


@pytest.mark.parametrize("limit", [5, 25])
def test_images_in_no_group_are_passed_by_however_many_come_first(index: Index, limit: int) -> None:
    odd = [image(f"odd{n}", FIRST + n * np.eye(DIMENSION)[1] / 9999, of=n + 0.5) for n in range(150)]
    even = [image(f"i{n}", FIRST + np.eye(DIMENSION)[1] * (1 + n), of=n) for n in range(20)]
    put(index, odd + even, "of")
    page = Groups(Neighbours(index, "shop", FIRST, exact=True), "of").page(limit, 0, 1)
    assert ids(page) == list(range(min(limit, 20)))


def test_an_image_in_no_group_before_many_that_tie_refuses_none(index: Index) -> None:
    tie = FIRST + np.eye(DIMENSION)[1]
    put(index, [image("odd", FIRST, of=1.5), *(image(str(n), tie, of=n) for n in range(120))], "of")
    page = Groups(Neighbours(index, "shop", FIRST, exact=True), "of").page(200, 0, 1)
    assert sorted(ids(page)) == list(range(120))


class Asked:
    """The index, with a count of the questions that it was asked."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.questions = 0

    def __getattr__(self, name: str) -> Any:
        self.questions += 1
        return getattr(self._index, name)


def test_a_threshold_that_few_reach_is_not_counted_group_by_group(index: Index) -> None:
    points = [
        image(f"{n}", FIRST + (n > 9) * (n + 99) * np.eye(DIMENSION)[1], group=n % 5) for n in range(1500)
    ]
    put(index, points)
    asked = Asked(index)
    near = Neighbours(asked, "shop", FIRST, score_threshold=0.5, exact=True)  # type: ignore[arg-type]
    page = Groups(near, "group").page(10, 0, 1)
    assert [(group.id, group.count) for group in page] == [(n, 2) for n in range(5)]
    assert asked.questions == 3


@pytest.mark.parametrize("value", [1.5, {"a": 1}, [0.5, 1.5]])
def test_a_field_that_makes_no_groups_is_refused_in_words(index: Index, value: Any) -> None:
    put(index, [image("a", FIRST, of=value), image("b", FIRST, of=value)], "of")
    with pytest.raises(RequestError, match="cannot be grouped by `of`") as refused:
        Groups(Neighbours(index, "shop", FIRST), "of").page(10, 0, 1)
    assert refused.value.code is RequestCode.INVALID_REQUEST


def test_a_field_that_makes_no_groups_is_refused_before_many_images_are_read(index: Index) -> None:
    put(index, [image(str(n), FIRST + n * np.eye(DIMENSION)[1] / 999, of=n + 0.5) for n in range(1000)], "of")
    asked = Asked(index)
    with pytest.raises(RequestError, match="cannot be grouped by `of`"):
        Groups(Neighbours(asked, "shop", FIRST), "of").page(10, 0, 1)  # type: ignore[arg-type]
    assert asked.questions <= 2


def test_a_field_that_no_image_has_makes_no_groups(index: Index) -> None:
    index.create("shop", _CARD)
    index.upsert("shop", [image("a", FIRST)])
    collection = index.find("shop")
    assert collection is not None
    assert not index_group_field("nothing", collection, index)
    assert Groups(Neighbours(index, "shop", FIRST), "nothing").page(10, 0, 1) == []


def test_a_page_past_the_last_group_is_empty(index: Index) -> None:
    put(index, catalogue(5))
    assert Groups(Neighbours(index, "shop", FIRST), "group").page(10, 5, 1) == []

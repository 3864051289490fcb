"""One contract, three ways to an engine: qdrant-edge here, the store process, and a real Qdrant server."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from shared.contract import ModelCard, point_id
from shared.errors import ModelMismatch, RequestCode, RequestError
from tests.workers.index.shop import CARD, OTHER_CARD, fill, image
from workers.index.interface import Filter, Index, Point

FIRST = np.array([1, 0, 0, 0], dtype=np.float32)


def refusal(code: RequestCode) -> Any:
    """The block inside must raise a RequestError with this code."""
    return pytest.raises(RequestError, check=lambda error: error.code is code)


# Collections


def test_a_collection_is_made_once(index: Index) -> None:
    assert index.create("shop", CARD) is True
    assert index.create("shop", CARD) is False


def test_a_collection_of_another_model_is_a_mismatch(index: Index) -> None:
    index.create("shop", CARD)
    with pytest.raises(ModelMismatch, match=r"m@1/p.*m@2/p"):
        index.create("shop", OTHER_CARD)


def test_a_collection_remembers_its_card_and_counts_its_images(index: Index) -> None:
    fill(index)
    collection = index.find("shop")
    assert collection is not None
    assert (collection.name, collection.card, collection.images) == ("shop", CARD, 8)
    assert index.find("other") is None


def test_collections_are_listed_by_name(index: Index) -> None:
    for name in ("b", "a", "c-1_X"):
        index.create(name, CARD)
    assert [collection.name for collection in index.collections()] == ["a", "b", "c-1_X"]


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".new-x", "-a", "a b", "é", "a" * 129, "a\n"])
def test_an_unsafe_name_is_refused(index: Index, name: str) -> None:
    with refusal(RequestCode.INVALID_NAME):
        index.create(name, CARD)
    assert index.collections() == []


def test_a_dropped_collection_can_be_made_anew_under_another_model(index: Index) -> None:
    fill(index)
    index.drop("shop")
    assert index.find("shop") is None
    wide = ModelCard(name="w", revision="1", preprocessing="p", dimension=6)
    assert index.create("shop", wide) is True
    assert index.count("shop") == 0
    index.upsert("shop", [image("a", np.ones(6))])
    assert [hit.id for hit in index.query("shop", np.ones(6))] == ["a"]


def test_many_threads_that_make_one_collection_agree(index: Index) -> None:
    made: list[bool] = []
    gate = threading.Barrier(8)

    def make() -> None:
        gate.wait()
        made.append(index.create("shop", CARD))

    run_threads(make, 8)
    assert len(made) == 8
    assert made.count(True) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.drop("no"),
        lambda index: index.ensure_indexes("no", {"a": "keyword"}),
        lambda index: index.upsert("no", [image("a")]),
        lambda index: index.set_payloads("no", {"a": {}}),
        lambda index: index.retrieve("no", ["a"]),
        lambda index: index.query("no", FIRST),
        lambda index: index.scroll("no"),
        lambda index: index.count("no"),
        lambda index: index.delete("no", ["a"]),
        lambda index: index.facet("no", "brand"),
    ],
)
def test_every_question_about_an_unknown_collection_says_so(index: Index, ask: Any) -> None:
    with pytest.raises(RequestError, match="There is no collection `no`") as caught:
        ask(index)
    assert caught.value.code is RequestCode.COLLECTION_NOT_FOUND


def test_an_engine_that_is_there_answers_a_ping(index: Index) -> None:
    index.ping()


# Writing and reading images


def test_an_image_comes_back_as_it_was_written(index: Index) -> None:
    index.create("shop", CARD)
    payload = {"n": 1, "f": 0.5, "s": "é", "l": [1, "a"], "o": {"k": None}, "b": True, "big": 2**53}
    written = image("https://example.org/ä?x=1", (3, 4, 0, 0), **payload)
    index.upsert("shop", [written])
    read = index.retrieve("shop", [written.id, "absent"], vectors=True)
    assert list(read) == [written.id]
    assert read[written.id].payload == written.payload
    vector = read[written.id].vector
    assert vector is not None
    np.testing.assert_allclose(vector, [0.6, 0.8, 0, 0], rtol=1e-6)  # cosine engines keep unit vectors


def test_vectors_are_read_only_when_asked_for(index: Index) -> None:
    fill(index)
    assert index.retrieve("shop", ["i0"])["i0"].vector is None


def test_an_image_written_again_is_replaced_whole(index: Index) -> None:
    index.create("shop", CARD)
    index.upsert("shop", [image("a", (1, 0, 0, 0), old=1)])
    index.upsert("shop", [image("a", (0, 1, 0, 0), new=2), image("b"), image("b", last=3)])
    read = index.retrieve("shop", ["a", "b"], vectors=True)
    assert read["a"].payload == {"new": 2, "_image": {"id": "a", "format": "JPEG"}}
    np.testing.assert_allclose(read["a"].vector, [0, 1, 0, 0])  # type: ignore[arg-type]
    assert read["b"].payload["last"] == 3
    assert index.count("shop") == 2


def test_payloads_are_replaced_and_vectors_stay(index: Index) -> None:
    fill(index)
    fresh = {id: {"_image": {"id": id}, "new": id} for id in ("i0", "i1", "absent")}
    index.set_payloads("shop", fresh)
    read = index.retrieve("shop", ["i0", "i1", "absent"], vectors=True)
    assert {id: point.payload for id, point in read.items()} == {id: fresh[id] for id in ("i0", "i1")}
    np.testing.assert_allclose(read["i0"].vector, FIRST)  # type: ignore[arg-type]
    assert index.count("shop") == 8


def test_deleted_images_are_gone_and_absent_ones_are_no_error(index: Index) -> None:
    fill(index)
    index.delete("shop", ["i0", "absent"])
    assert index.count("shop") == 7
    assert index.retrieve("shop", ["i0"]) == {}
    assert "i0" not in [hit.id for hit in index.query("shop", FIRST)]


@pytest.mark.parametrize("write", [[], {}])
def test_nothing_to_write_is_no_error(index: Index, write: Any) -> None:
    fill(index)
    index.upsert("shop", list(write))
    index.set_payloads("shop", dict(write))
    index.delete("shop", list(write))
    assert index.retrieve("shop", list(write)) == {}
    assert index.count("shop") == 8


@pytest.mark.parametrize(
    "vector",
    [
        np.full(4, np.nan, np.float32),
        np.array([1, np.inf, 0, 0], np.float32),
        np.ones(3, np.float32),
        np.ones((1, 4), np.float32),
        None,
    ],
)
def test_a_bad_vector_is_refused_and_nothing_of_its_batch_is_written(index: Index, vector: Any) -> None:
    index.create("shop", CARD)
    bad = Point("bad", {"_image": {"id": "bad"}}, vector)
    with pytest.raises(ValueError, match="vector"):
        index.upsert("shop", [image("good"), bad])
    with pytest.raises(ValueError, match="vector"):
        index.query("shop", vector)
    assert index.count("shop") == 0


def test_a_payload_that_is_not_json_is_refused(index: Index) -> None:
    index.create("shop", CARD)
    with pytest.raises(ValueError):  # noqa: PT011 - the sentence is the library's own
        index.upsert("shop", [image("a", lone="\ud800")])


def test_a_batch_of_large_payloads_is_written_whole(index: Index) -> None:
    index.create("shop", CARD)
    index.upsert("shop", [image(f"i{n}", text="z" * 2**20) for n in range(48)])
    assert index.count("shop") == 48


def test_two_threads_write_and_lose_nothing(index: Index) -> None:
    index.create("shop", CARD)
    numbers = iter(range(2))

    def write() -> None:
        thread = next(numbers)
        for batch in range(10):
            index.upsert("shop", [image(f"{thread}/{batch}/{n}", np.random.rand(4)) for n in range(20)])

    run_threads(write, 2)
    assert index.count("shop") == 400


# Searching


def test_the_nearest_come_first_with_their_cosine(index: Index) -> None:
    fill(index)
    hits = index.query("shop", FIRST, limit=3)
    assert [hit.id for hit in hits] == ["i0", "i1", "i2"]
    np.testing.assert_allclose([hit.score for hit in hits], [1, 1 / 1.01**0.5, 1 / 1.04**0.5], rtol=1e-5)
    assert hits[0].payload["name"] == "red shoes"


@pytest.mark.parametrize("exact", [True, False])
def test_pages_of_hits_follow_each_other(index: Index, exact: bool) -> None:
    fill(index)
    pages = [index.query("shop", FIRST, limit=3, offset=offset, exact=exact) for offset in (0, 3, 6, 9)]
    assert [[hit.id for hit in page] for page in pages] == [
        ["i0", "i1", "i2"],
        ["i3", "i4", "i5"],
        ["i6", "i7"],
        [],
    ]


def test_hits_below_the_threshold_are_left_out(index: Index) -> None:
    fill(index)
    hits = index.query("shop", FIRST, score_threshold=0.98)
    assert [hit.id for hit in hits] == ["i0", "i1", "i2"]


def test_equal_scores_come_in_order_of_their_ids(index: Index) -> None:
    index.create("shop", CARD)
    index.upsert("shop", [image(id) for id in ("c", "a", "d", "b")])
    assert [hit.id for hit in index.query("shop", FIRST)] == ["a", "b", "c", "d"]


def test_a_search_in_an_empty_collection_finds_nothing(index: Index) -> None:
    index.create("shop", CARD)
    assert index.query("shop", FIRST) == []


def test_a_search_keeps_to_its_filter(index: Index) -> None:
    fill(index)
    hits = index.query("shop", FIRST, filter={"must": [{"key": "brand", "match": {"value": "bob"}}]})
    assert [hit.id for hit in hits] == ["i2", "i3", "i4"]


# Filters


def field(key: str, **condition: Any) -> Filter:
    return {"must": [{"key": key, **condition}]}


NEAR_BERLIN = {"lon": 13.41, "lat": 52.51}
SQUARE = [{"lon": lon, "lat": lat} for lon, lat in ((13, 52), (14, 52), (14, 53), (13, 53), (13, 52))]
HOLE = [
    {"lon": lon, "lat": lat}
    for lon, lat in ((13.3, 52.4), (13.5, 52.4), (13.5, 52.6), (13.3, 52.6), (13.3, 52.4))
]
FILTERS: dict[str, tuple[Filter, str]] = {
    "empty": ({}, "01234567"),
    "match a word": (field("brand", match={"value": "ada"}), "01"),
    "match a number": (field("price", match={"value": 30}), "2"),
    "match a bool": (field("sale", match={"value": True}), "024"),
    "match in a list": (field("tags", match={"value": "y"}), "13"),
    "match any": (field("brand", match={"any": ["ada", "cat"]}), "015"),
    "match any number": (field("price", match={"any": [10, 20]}), "01"),
    "match none of": (field("brand", match={"except": ["ada", "bob"]}), "5"),
    "match text": (field("name", match={"text": "red shoes"}), "04"),
    "match a phrase": (field("name", match={"phrase": "red shoes"}), "0"),
    "match any text": (field("name", match={"text_any": "green hat"}), "135"),
    "range of whole numbers": (field("price", range={"gte": 20, "lt": 40}), "12"),
    "range of fractions": (field("weight", range={"gt": 1.5, "lte": 3.5}), "23"),
    "range of times": (field("added", range={"gte": "2024-01-10T00:00:00Z"}), "7"),
    "range of days": (field("added", range={"lt": "2024-01-10"}), "6"),
    "range with a zone": (field("added", range={"gt": "2024-02-01T13:30:00+02:00"}), "7"),
    "is_empty": ({"must": [{"is_empty": {"key": "tags"}}]}, "24567"),
    "is_empty of a field": (field("tags", is_empty=False), "013"),
    "is_null": ({"must": [{"is_null": {"key": "brand"}}]}, "6"),
    "is_null of a field": (field("sale", is_null=True), "5"),
    "has_id": ({"must": [{"has_id": [point_id("i3"), point_id("absent")]}]}, "3"),
    "has_vector": ({"must": [{"has_vector": ""}]}, "01234567"),
    "values_count": (field("tags", values_count={"gte": 2}), "13"),
    "nested objects": (
        {
            "must": [
                {
                    "nested": {
                        "key": "offers",
                        "filter": {
                            "must": [
                                {"key": "shop", "match": {"value": "north"}},
                                {"key": "price", "range": {"lt": 10}},
                            ]
                        },
                    }
                }
            ]
        },
        "0",
    ),
    "path into objects": (field("offers[].price", range={"lt": 10}), "01"),
    "path into the system's part": (field("_image.id", match={"value": "i6"}), "6"),
    "geo box": (
        field(
            "place",
            geo_bounding_box={"top_left": {"lon": 13, "lat": 53}, "bottom_right": {"lon": 14, "lat": 52}},
        ),
        "7",
    ),
    "geo radius": (field("place", geo_radius={"center": NEAR_BERLIN, "radius": 5000}), "7"),
    "geo radius too small": (field("place", geo_radius={"center": NEAR_BERLIN, "radius": 50}), ""),
    "geo polygon": (field("place", geo_polygon={"exterior": {"points": SQUARE}}), "7"),
    "geo polygon with a hole": (
        field("place", geo_polygon={"exterior": {"points": SQUARE}, "interiors": [{"points": HOLE}]}),
        "",
    ),
    "must, all of them": (
        {"must": [{"key": "brand", "match": {"value": "bob"}}, {"key": "sale", "match": {"value": True}}]},
        "24",
    ),
    "should, one of them": (
        {"should": [{"key": "brand", "match": {"value": "cat"}}, {"key": "price", "range": {"lt": 15}}]},
        "05",
    ),
    "must_not": ({"must_not": [{"key": "brand", "match": {"any": ["ada", "bob"]}}]}, "567"),
    "min_should": (
        {
            "min_should": {
                "conditions": [
                    {"key": "brand", "match": {"value": "bob"}},
                    {"key": "sale", "match": {"value": True}},
                    {"key": "price", "range": {"lte": 20}},
                ],
                "min_count": 2,
            }
        },
        "024",
    ),
    "one condition for a list": ({"must": {"key": "brand", "match": {"value": "cat"}}}, "5"),
    "one condition to rule out": ({"must_not": {"is_empty": {"key": "brand"}}}, "012345"),
    "a filter in a filter": (
        {
            "must": [
                {"should": {"key": "price", "match": {"value": 10}}, "must_not": []},
                {"must_not": [{"should": [{"key": "sale", "match": {"value": False}}]}]},
            ]
        },
        "0",
    ),
}


@pytest.mark.parametrize("form", FILTERS)
@pytest.mark.parametrize("indexed", [False, True], ids=["bare", "indexed"])
def test_every_form_of_filter_chooses_the_right_images(index: Index, form: str, indexed: bool) -> None:
    filter, expected = FILTERS[form]
    fill(index)
    if indexed:
        index.ensure_indexes(
            "shop",
            {"brand": "keyword", "price": "integer", "weight": "float", "sale": "bool", "name": "text"},
        )
        index.ensure_indexes("shop", {"added": "datetime", "tags": "keyword", "_image.id": "keyword"})
    chosen = {f"i{digit}" for digit in expected}
    points, _ = index.scroll("shop", filter=filter)
    assert {point.id for point in points} == chosen
    assert index.count("shop", filter=filter) == len(chosen)
    assert {hit.id for hit in index.query("shop", FIRST, filter=filter)} == chosen


@pytest.mark.parametrize(
    "filter",
    [
        {"most": []},
        {"must": [{"key": "a"}]},
        {"must": [{"match": {"value": 1}}]},
        {"must": [{"key": "a", "match": {"value": 1.5}}]},
        {"must": [{"key": "a", "match": {"any": [1, "x"]}}]},
        {"must": [{"key": "a b", "match": {"value": 1}}]},
        {"must": [{"key": "a", "range": {"gte": "soon"}}]},
        {"must": [{"has_id": ["not-a-uuid"]}]},
        {"must": [{"key": "a", "geo_radius": {"center": {"lon": 500, "lat": 0}, "radius": 1}}]},
        {"must": [{"key": "a", "geo_polygon": {"exterior": {"points": [{"lon": 1, "lat": 1}]}}}]},
        {"must": [{"slice": {"total": 2, "index": 0}}]},
    ],
    ids=str,
)
def test_a_filter_that_the_engine_cannot_use_is_refused(index: Index, filter: Filter) -> None:
    fill(index)
    for ask in (
        lambda: index.query("shop", FIRST, filter=filter),
        lambda: index.scroll("shop", filter=filter),
        lambda: index.count("shop", filter=filter),
        lambda: index.facet("shop", "brand", filter=filter),
    ):
        with refusal(RequestCode.INVALID_FILTER):
            ask()


# Payload indexes, pages and facets


def test_payload_indexes_stand_and_may_be_asked_for_again(index: Index) -> None:
    fill(index)
    wanted: dict[str, Any] = {
        "k": "keyword",
        "i": "integer",
        "f": "float",
        "b": "bool",
        "d": "datetime",
        "t": "text",
        "u": "uuid",
        "_image.format": "keyword",
    }
    index.ensure_indexes("shop", wanted)
    index.ensure_indexes("shop", wanted)
    collection = index.find("shop")
    assert collection is not None
    assert collection.indexes == wanted


def test_a_payload_index_of_another_type_is_refused(index: Index) -> None:
    fill(index)
    index.ensure_indexes("shop", {"price": "integer"})
    with pytest.raises(RequestError, match="`price` is indexed as integer already") as caught:
        index.ensure_indexes("shop", {"price": "keyword"})
    assert caught.value.code is RequestCode.INVALID_REQUEST


def test_a_payload_index_on_a_bad_path_is_refused(index: Index) -> None:
    fill(index)
    with refusal(RequestCode.INVALID_REQUEST):
        index.ensure_indexes("shop", {"a b": "keyword"})


def test_pages_visit_every_image_once(index: Index) -> None:
    index.create("shop", CARD)
    index.upsert("shop", [image(f"i{n}", np.random.rand(4)) for n in range(1037)])
    seen: list[str] = []
    cursor = None
    while True:
        points, cursor = index.scroll("shop", limit=100, cursor=cursor)
        seen += [point.id for point in points]
        if cursor is None:
            break
    assert len(seen) == 1037
    assert set(seen) == {f"i{n}" for n in range(1037)}


def test_a_cursor_that_is_none_of_ours_is_refused(index: Index) -> None:
    fill(index)
    with pytest.raises(RequestError, match="`zz` is not a cursor") as caught:
        index.scroll("shop", cursor="zz")
    assert caught.value.code is RequestCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("brand", {("bob", 3), ("ada", 2), ("cat", 1)}),
        ("sale", {(True, 3), (False, 2)}),
        ("price", {(10, 1), (20, 1), (30, 1), (40, 1), (50, 1), (60, 1)}),
        ("tags", {("x", 3), ("y", 2), ("z", 1)}),
        ("_image.format", {("JPEG", 8)}),
        ("offers[].shop", {("north", 2), ("south", 2)}),
        ("nothing", set()),
    ],
)
def test_facets_count_the_values_of_a_field(index: Index, key: str, expected: set[tuple[Any, int]]) -> None:
    fill(index)
    for _ in range(2):  # the second time with the payload index that the first one made
        counted = index.facet("shop", key)
        assert set(counted) == expected
        assert [count for _, count in counted] == sorted((count for _, count in counted), reverse=True)


def test_facets_keep_to_their_filter_and_limit(index: Index) -> None:
    fill(index)
    assert index.facet("shop", "brand", limit=1) == [("bob", 3)]
    assert index.facet("shop", "brand", filter=field("price", range={"lte": 30})) == [("ada", 2), ("bob", 1)]


def test_facets_of_fractions_are_refused(index: Index) -> None:
    fill(index)
    with pytest.raises(RequestError, match="`weight` are of type float") as caught:
        index.facet("shop", "weight")
    assert caught.value.code is RequestCode.INVALID_REQUEST


def run_threads(work: Any, number: int) -> None:
    """Run `work` in threads, and raise here what one of them raised."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]

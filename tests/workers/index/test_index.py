"""One contract, three ways to an engine: qdrant-edge here, the store process, and a real Qdrant server."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from shared.contract import ModelCard, point_id
from shared.errors import ModelMismatch, RequestCode, RequestError
from tests.workers.index.shop import CARD, OTHER_CARD, fill, image
from workers.index.interface import Index, Point

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
    assert (collection.name, collection.card) == ("shop", CARD)
    assert index.count("shop") == 8
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
        lambda index: index.versions("no"),
        lambda index: index.create("no@2", CARD),
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


# Versions


def two_versions(index: Index) -> None:
    """`shop@1`, live, with its eight images, and `shop@2` under another model, with one."""
    fill(index)
    assert index.create("shop@2", OTHER_CARD) is True
    index.upsert("shop@2", [image("new")])


def live(index: Index) -> list[str]:
    return [collection.key for collection in index.collections()]


def test_a_new_collection_is_its_own_first_version(index: Index) -> None:
    fill(index)
    collection = index.find("shop")
    assert collection is not None
    assert (collection.key, collection.live) == ("shop@1", True)
    assert index.find("shop@1") == collection
    assert index.versions("shop") == [collection]
    assert index.count("shop@1") == 8


def test_a_second_version_stands_beside_the_live_one(index: Index) -> None:
    two_versions(index)
    assert index.create("shop@2", OTHER_CARD) is False
    with pytest.raises(ModelMismatch, match="shop@2"):
        index.create("shop@2", CARD)
    versions = [(found.key, found.live, found.card) for found in index.versions("shop")]
    assert versions == [("shop@1", True, CARD), ("shop@2", False, OTHER_CARD)]
    assert live(index) == ["shop@1"]
    assert (index.count("shop"), index.count("shop@2")) == (8, 1)


def test_a_swap_and_a_swap_back_change_what_the_plain_name_stands_for(index: Index) -> None:
    two_versions(index)
    before = index.find("shop")
    index.go_live("shop", 2)
    index.go_live("shop", 2)
    assert live(index) == ["shop@2"]
    assert before is not None
    assert (index.count("shop"), index.count(before.key)) == (1, 8)
    assert [found.live for found in index.versions("shop")] == [False, True]
    index.upsert("shop", [image("newer")])
    assert list(index.retrieve("shop@2", ["newer"])) == ["newer"]
    index.go_live("shop", 1)
    assert live(index) == ["shop@1"]
    assert index.count("shop") == 8


def test_versions_of_other_widths_take_each_its_own_vectors(index: Index) -> None:
    fill(index)
    index.create("shop@2", CARD.model_copy(update={"dimension": 6}))
    index.upsert("shop@2", [image("wide", np.ones(6))])
    assert [hit.id for hit in index.query("shop@2", np.ones(6))] == ["wide"]
    assert len(index.query("shop", FIRST)) == 8
    index.go_live("shop", 2)
    assert [hit.id for hit in index.query("shop", np.ones(6))] == ["wide"]
    assert len(index.query("shop@1", FIRST)) == 8


def test_a_version_that_does_not_stand_cannot_go_live(index: Index) -> None:
    fill(index)
    with pytest.raises(RequestError, match="no collection `shop@3`") as caught:
        index.go_live("shop", 3)
    assert caught.value.code is RequestCode.COLLECTION_NOT_FOUND
    assert live(index) == ["shop@1"]


def test_a_version_that_is_not_live_can_be_dropped_alone(index: Index) -> None:
    two_versions(index)
    with pytest.raises(RequestError, match="`shop@1` is live"):
        index.drop("shop@1")
    index.go_live("shop", 2)
    index.drop("shop@1")
    assert [found.key for found in index.versions("shop")] == ["shop@2"]
    assert index.find("shop@1") is None
    with refusal(RequestCode.COLLECTION_NOT_FOUND):
        index.count("shop@1")


def test_the_number_of_a_dropped_version_is_never_given_again(index: Index) -> None:
    two_versions(index)
    index.drop("shop@2")
    assert index.create("shop@3", OTHER_CARD) is True
    index.go_live("shop", 3)
    index.drop("shop@1")
    for dropped in ("shop@1", "shop@2"):
        with pytest.raises(ModelMismatch, match="was dropped"):
            index.create(dropped, OTHER_CARD)
    assert index.find("shop@2") is None
    index.drop("shop")
    assert index.create("shop", CARD) is True
    assert index.create("shop@2", OTHER_CARD) is True


def test_dropping_a_collection_drops_all_its_versions_and_no_other_collection(index: Index) -> None:
    two_versions(index)
    fill(index, "shop-2")
    index.go_live("shop", 2)
    index.drop("shop")
    assert index.find("shop") is index.find("shop@1") is index.find("shop@2") is None
    assert live(index) == ["shop-2@1"]
    assert index.create("shop", OTHER_CARD) is True
    assert [found.key for found in index.versions("shop")] == ["shop@1"]
    assert index.count("shop") == 0


def test_searches_and_writes_find_their_version_while_the_name_swaps(index: Index) -> None:
    two_versions(index)
    swaps = iter(range(20))

    def swap() -> None:
        for number in swaps:
            index.go_live("shop", 2 - number % 2)

    def ask() -> None:
        for _ in range(60):
            found = index.find("shop")
            assert found is not None
            assert len(index.query(found.key, FIRST)) == {"shop@1": 8, "shop@2": 1}[found.key]
            assert len(index.query("shop", FIRST)) in (1, 8)

    works = iter([swap, ask, ask])
    run_threads(lambda: next(works)(), 3)


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


def test_pages_come_in_order_of_point_ids_with_vectors_where_they_are_asked_for(index: Index) -> None:
    fill(index)
    first, cursor = index.scroll("shop", limit=5, vectors=True)
    rest, end = index.scroll("shop", limit=5, cursor=cursor, vectors=True)
    ids = [point.id for point in first + rest]
    assert ids == sorted((f"i{n}" for n in range(8)), key=point_id)
    assert end is None
    stored = index.retrieve("shop", ids, vectors=True)
    for point in first + rest:
        np.testing.assert_array_equal(point.vector, stored[point.id].vector)  # type: ignore[arg-type]
    assert index.scroll("shop")[0][0].vector is None


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
    assert index.facet("shop", "brand", filter={"must": [{"key": "price", "range": {"lte": 30}}]}) == [
        ("ada", 2),
        ("bob", 1),
    ]


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

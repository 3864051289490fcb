"""What holds of the embedded engine's folder, beyond the contract."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge

from shared.errors import IndexUnavailable, ModelMismatch, StartError
from tests.workers.index.shop import CARD, OTHER_CARD, fill, image
from workers.index.edge import EdgeIndex


def test_everything_stands_after_closing_and_opening(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.ensure_indexes("shop", {"brand": "keyword", "sale": "bool", "price": "integer", "name": "text"})
    before = index.scroll("shop")
    collection = index.find("shop")
    index.close()
    again = EdgeIndex(tmp_path)
    assert again.collections() == [collection]
    assert again.scroll("shop") == before
    assert again.facet("shop", "brand") == [("bob", 3), ("ada", 2), ("cat", 1)]
    again.close()


def test_a_collection_from_before_the_codes_opens_takes_images_and_finds_them(tmp_path: Path) -> None:
    plain = edge.EdgeConfig(vectors=edge.EdgeVectorParams(size=4, distance=edge.Distance.Cosine))
    with pytest.MonkeyPatch.context() as before:
        before.setattr("workers.index.shard._config", lambda card: plain)
        index = EdgeIndex(tmp_path)
        fill(index)
        index.close()
    index = EdgeIndex(tmp_path)
    index.upsert("shop", [image("new", np.array([1.0, 0, 0, 0.1]))])
    quick = index.query("shop", np.array([1.0, 0, 0, 0.1]), limit=9)
    assert quick[0].id == "new"
    assert quick == index.query("shop", np.array([1.0, 0, 0, 0.1]), limit=9, exact=True)
    index.close()


VECTORS = np.random.default_rng(0).normal(size=(3000, 384)) + np.repeat(
    3 * np.random.default_rng(1).normal(size=(30, 384)), 100, axis=0
)
QUERIES = VECTORS[::100] + 0.1 * np.random.default_rng(2).normal(size=(30, 384))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeIndex]:
    """Three thousand vectors in thirty clusters, with codes."""
    folder = tmp_path_factory.mktemp("many")
    index = EdgeIndex(folder)
    index.create("many", CARD.model_copy(update={"dimension": 384}))
    index.upsert("many", [image(str(number), vector) for number, vector in enumerate(VECTORS)])
    assert [*folder.rglob("*quantized*")]
    yield index
    index.close()


def test_the_codes_bring_the_nearest_that_an_exact_search_finds(many: EdgeIndex) -> None:
    shared = 0
    for query in QUERIES:
        quick, exact = (many.query("many", query, exact=exact) for exact in (False, True))
        shared += len({hit.id for hit in quick} & {hit.id for hit in exact})
        assert quick[0] == exact[0]  # score included: the whole vectors rank
    assert shared >= 0.97 * 300


def test_pages_of_a_search_by_codes_join_without_gap_or_double(many: EdgeIndex) -> None:
    whole = [hit.id for hit in many.query("many", QUERIES[0], limit=100)]
    pages = [many.query("many", QUERIES[0], limit=10, offset=offset) for offset in range(0, 100, 10)]
    assert [hit.id for page in pages for hit in page] == whole


def test_a_threshold_is_of_whole_vectors(many: EdgeIndex) -> None:
    hits = many.query("many", QUERIES[0], limit=100)
    for last in (0, 5, 20, 60):
        threshold = (hits[last].score + hits[last + 1].score) / 2
        assert many.query("many", QUERIES[0], limit=100, score_threshold=threshold) == hits[: last + 1]


def test_a_second_owner_of_the_folder_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = EdgeIndex(tmp_path)
    with pytest.raises(StartError, match="Another process uses the store"):
        EdgeIndex(tmp_path)
    first.close()
    EdgeIndex(tmp_path).close()


def test_a_closed_index_is_unavailable_rather_than_empty(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    index.close()
    for ask in (index.collections, index.ping, lambda: index.count("shop"), lambda: index.create("a", CARD)):
        with pytest.raises(IndexUnavailable):
            ask()


def test_leftovers_of_a_crash_are_removed_at_the_next_start(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    (tmp_path / ".new-abc" / "shard").mkdir(parents=True)
    (tmp_path / ".new-live.json").write_text("{")
    (tmp_path / "shop@1").rename(tmp_path / ".old-abc")
    again = EdgeIndex(tmp_path)
    assert again.collections() == []
    assert again.create("shop", CARD) is True
    again.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "live.json", "shop@1"]


def test_a_damaged_collection_is_named_at_the_start(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    (tmp_path / "shop@1" / "card.json").write_text("{")
    with pytest.raises(StartError, match="Collection `shop@1` cannot be opened"):
        EdgeIndex(tmp_path)


def test_a_collection_from_before_there_were_versions_is_version_1(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    (tmp_path / "shop@1").rename(tmp_path / "shop")
    (tmp_path / "live.json").unlink()
    for _ in range(2):
        again = EdgeIndex(tmp_path)
        assert [collection.key for collection in again.collections()] == ["shop@1"]
        assert again.count("shop") == again.count("shop@1") == 8
        again.close()


def test_two_first_versions_of_one_name_are_refused_and_neither_is_touched(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.close()
    shutil.copytree(tmp_path / "shop@1", tmp_path / "shop")
    with pytest.raises(StartError, match="both hold version 1"):
        EdgeIndex(tmp_path)
    assert (tmp_path / "shop" / "card.json").exists()
    assert (tmp_path / "shop@1" / "card.json").exists()


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    """The folder of a closed index whose `shop` is at version 2, of one image, with version 1 kept."""
    index = EdgeIndex(tmp_path)
    fill(index)
    index.create("shop@2", OTHER_CARD)
    index.upsert("shop@2", [image("new")])
    index.go_live("shop", 2)
    index.close()
    return tmp_path


def counted(folder: Path) -> dict[str, int]:
    """What stands there under plain names, in how many images."""
    index = EdgeIndex(folder)
    found = {collection.key: index.count(collection.name) for collection in index.collections()}
    index.close()
    return found


def test_the_live_version_is_the_same_after_closing_and_opening(swapped: Path) -> None:
    assert counted(swapped) == {"shop@2": 1}


def test_without_the_file_that_says_which_is_live_it_is_the_oldest_version(swapped: Path) -> None:
    (swapped / "live.json").unlink()
    assert counted(swapped) == {"shop@1": 8}


def test_a_live_version_that_was_moved_away_leaves_the_other_one_live(swapped: Path) -> None:
    (swapped / "shop@2").rename(swapped.parent / "kept")
    assert counted(swapped) == {"shop@1": 8}


def test_a_file_of_live_versions_that_cannot_be_read_is_named_at_the_start(swapped: Path) -> None:
    (swapped / "live.json").write_text("{")
    with pytest.raises(StartError, match=r"live\.json does not say which versions are live"):
        EdgeIndex(swapped)


def test_a_drop_that_died_before_the_live_version_was_gone_leaves_it_standing(swapped: Path) -> None:
    (swapped / "shop@1").rename(swapped / ".old-abc")
    assert counted(swapped) == {"shop@2": 1}


def assert_nothing_stands_and_it_can_begin_anew(root: Path) -> None:
    assert counted(root) == {}
    index = EdgeIndex(root)
    assert index.create("shop", CARD) is True
    index.close()
    assert counted(root) == {"shop@1": 0}


def test_a_drop_that_died_after_the_live_version_was_gone_is_a_drop(swapped: Path) -> None:
    for version in ("shop@1", "shop@2"):
        (swapped / version).rename(swapped / f".old-{version}")
    assert_nothing_stands_and_it_can_begin_anew(swapped)


def test_what_was_written_of_a_dropped_collection_puts_no_later_version_live(swapped: Path) -> None:
    index = EdgeIndex(swapped)
    index.drop("shop")
    written = (swapped / "live.json").read_bytes()
    index.create("shop", CARD)
    index.close()
    (swapped / "live.json").write_bytes(written)  # as if the maker had died before it could write
    index = EdgeIndex(swapped)
    index.create("shop@2", OTHER_CARD)
    index.close()
    assert counted(swapped) == {"shop@1": 0}


def test_what_a_process_left_that_died_in_a_drop_hinders_no_new_collection(swapped: Path) -> None:
    for version in ("shop@1", "shop@2"):
        shutil.rmtree(swapped / version)
        (swapped / version).mkdir()
    assert_nothing_stands_and_it_can_begin_anew(swapped)


def test_dropped_numbers_outlive_closing_and_opening(swapped: Path) -> None:
    index = EdgeIndex(swapped)
    index.create("shop@3", CARD)
    index.drop("shop@3")
    index.close()
    index = EdgeIndex(swapped)
    with pytest.raises(ModelMismatch, match="was dropped"):
        index.create("shop@3", CARD)
    index.close()


def test_a_file_in_the_folder_of_a_dropped_version_hinders_no_drop_and_no_new_collection(
    swapped: Path,
) -> None:
    index = EdgeIndex(swapped)
    index.drop("shop@1")
    (swapped / "shop@1" / ".DS_Store").write_bytes(b"as a file manager leaves it")
    index.drop("shop")
    assert index.create("shop", CARD) is True
    assert index.create("shop@2", OTHER_CARD) is True
    index.close()


def test_a_collection_whose_maker_died_before_it_went_live_stands(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    index.create("shop", CARD)
    index.close()
    (tmp_path / "live.json").unlink()
    assert counted(tmp_path) == {"shop@1": 0}


def test_a_swap_that_cannot_be_written_changes_nothing(
    swapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EdgeIndex(swapped)
    with monkeypatch.context() as full:
        full.setattr("os.fsync", _no_space)
        with pytest.raises(IndexUnavailable, match="No space"):
            index.go_live("shop", 1)
        with pytest.raises(IndexUnavailable, match="No space"):
            index.create("lamps", CARD)
    assert index.count("shop") == 1
    assert [collection.key for collection in index.collections()] == ["shop@2"]
    assert index.create("lamps", OTHER_CARD) is True
    index.close()
    assert counted(swapped) == {"lamps@1": 0, "shop@2": 1}


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_flush_keeps_the_index_open(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    fill(index)
    index.flush()
    index.upsert("shop", [image("later")])
    assert index.count("shop") == 9
    index.close()

"""workers/sources/parquet.py: Parquet files, sound and otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import lesions
from tests.workers.sources.conftest import read_here, written


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    lesions.lesions(20).to_parquet(path, batch_size=6)  # several row groups
    return path


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    def make(**columns: Any) -> Path:
        pq.write_table(pa.table(columns), tmp_path / "made.parquet")
        return tmp_path / "made.parquet"

    return make


def test_the_clinics_set_is_read_with_every_column_as_a_field_of_its_type(clinic: Path) -> None:
    read = read_here(clinic, id_column="image_id")
    assert read.error is None
    assert [item.id for item in read.items] == [f"ISIC_{number:07}" for number in range(20)]
    assert [item.payload for item in read.items] == [lesions.payload(number) for number in range(20)]
    assert read.images == {f"ISIC_{number:07}": lesions.jpeg(number) for number in range(20)}


def test_a_missing_age_is_filled_where_that_is_asked_for(clinic: Path) -> None:
    ages = [item.payload["age"] for item in read_here(clinic, id_column="image_id", fill={"age": 0}).items]
    assert ages[:3] == [0, 41.0, 42.0]


def test_what_belongs_together_is_named_by_a_column(clinic: Path) -> None:
    items = read_here(clinic, id_column="image_id", group_column="lesion_id").items
    assert [item.payload["group"] for item in items[:3]] == ["HAM_0000000", "HAM_0000000", "HAM_0000001"]


def test_reading_on_begins_at_the_row_after(clinic: Path) -> None:
    for skip in (1, 6, 7, 13, 19, 20):
        read = read_here(clinic, given={"skip": skip}, id_column="image_id")
        assert [item.id for item in read.items] == [f"ISIC_{number:07}" for number in range(skip, 20)]
        assert read.rows == 20


def test_the_files_after_the_first_are_read_on(clinic: Path) -> None:
    ids = [item.id for item in read_here(clinic, clinic, given={"skip": 18}, id_column="image_id").items]
    assert ids == [f"ISIC_{number:07}" for number in (18, 19, *range(20))]


def test_a_later_file_has_the_columns_of_ids_and_pictures(clinic: Path, tmp_path: Path) -> None:
    for column in ("image_id", "image"):
        other = tmp_path / "other.parquet"
        pq.write_table(pq.read_table(clinic).drop_columns([column]), other)
        read = read_here(clinic, other, id_column="image_id")
        assert len(read.items) == 20
        assert f"`other.parquet` has no column `{column}`" in (read.error or "")
    pq.write_table(pq.read_table(clinic).drop_columns(["age"]), other)
    assert len(read_here(clinic, other, id_column="image_id").items) == 40


def test_without_an_id_the_hash_of_the_bytes_is_the_id(clinic: Path) -> None:
    ids = {item.id for item in read_here(clinic).items}
    assert len(ids) == 20
    assert all(id.startswith("sha256:") and len(id) == 71 for id in ids)


def test_a_labels_name_is_its_value(tmp_path: Path) -> None:
    features = datasets.Features(
        {"url": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = [{"url": "http://a.example/1", "label": 1}, {"url": "http://a.example/2", "label": None}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert [item.payload for item in read_here(tmp_path / "a.parquet").items] == [{"label": "dog"}, {}]


def test_a_cell_of_pictures_may_be_bytes_a_url_or_a_list_of_either(parquet: Callable[..., Path]) -> None:
    feed = parquet(
        id=["a", "b"],
        image=[[b"one", b"two"], [b"three"]],
        other=["http://a.example/1", "http://a.example/2"],
    )
    read = read_here(feed, image_column="image")
    assert read.images == {"a#1": b"one", "a#2": b"two", "b#1": b"three"}
    assert [item.payload["group"] for item in read.items] == ["a", "a", "b"]
    assert [item.url for item in read_here(feed, image_column="other").items] == [
        "http://a.example/1",
        "http://a.example/2",
    ]


def test_pictures_that_cannot_be_used_fail_alone_and_no_file_is_read(parquet: Callable[..., Path]) -> None:
    cells = [
        {"bytes": None, "path": __file__},
        {"bytes": None, "path": "https://a.example/1.jpg"},
        {"bytes": b"", "path": None},
        {"bytes": b"x" * 2000, "path": None},
        None,
        {"bytes": b"fine", "path": "/etc/hostname"},
    ]
    read = read_here(parquet(id=list("abcdef"), image=cells), given={"max_image_bytes": 1000})
    assert {id: code for id, (code, _) in read.refusals().items()} == {
        **{"a": "bad_url", "c": "empty", "d": "too_large", "e": "empty"}
    }
    assert "LOOKALIKE_FETCH_MAX_BYTES" in read.refusals()["d"][1]
    assert read.images == {"f": b"fine"}
    assert read.items[1].url == "https://a.example/1.jpg"


def test_a_value_that_python_cannot_hold_fails_its_row_alone(parquet: Callable[..., Path]) -> None:
    feed = parquet(
        url=["http://a.example/1", "http://a.example/2"], at=pa.array([2**60, 0], pa.timestamp("us"))
    )
    read = read_here(feed)
    assert list(read.refusals()) == ["row:0"]
    assert read.items[1].payload == {"at": "1970-01-01T00:00:00"}


def test_ids_that_are_numbers_are_text(parquet: Callable[..., Path]) -> None:
    urls = ["http://a.example/1", "http://a.example/2"]
    assert [item.id for item in read_here(parquet(url=urls, id=[7, 8])).items] == ["7", "8"]
    gap = read_here(parquet(url=urls, id=pa.array([7.0, float("nan")]))).items
    assert [item.id for item in gap] == ["7", "http://a.example/2"]


@pytest.mark.parametrize("damage", ["empty", "rubbish", "cut off", "flipped"])
def test_a_broken_file_is_said_in_words(clinic: Path, tmp_path: Path, damage: str) -> None:
    data = bytearray(clinic.read_bytes())
    data[100:3000:7] = bytes(byte ^ 0x5A for byte in data[100:3000:7])
    broken = {
        "empty": b"",
        "rubbish": bytes(range(256)) * 20,
        "cut off": clinic.read_bytes()[:-500],
        "flipped": bytes(data),
    }
    error = read_here(written(tmp_path / "broken.parquet", broken[damage])).error
    assert error is not None
    assert error.startswith("`broken.parquet` is no sound Parquet file: ")

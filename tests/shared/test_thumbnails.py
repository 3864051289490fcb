"""shared/thumbnails.py: where a thumbnail is kept and where it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.files import Files
from shared.settings import Settings
from shared.thumbnails import Thumbnails, thumbnail_path

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def thumbnails(tmp_path: Path) -> Thumbnails:
    return Thumbnails(Files(Settings(files=str(tmp_path))))


def test_each_collection_has_its_own_by_the_hash_of_what_they_show(
    thumbnails: Thumbnails, tmp_path: Path
) -> None:
    thumbnails.write("shop", ONE, b"one")
    thumbnails.write("clinic", ONE, b"another")
    assert (thumbnails.read("shop", ONE), thumbnails.read("clinic", ONE)) == (b"one", b"another")
    assert (tmp_path / "thumbnails" / "shop" / "11" / f"{ONE}.webp").read_bytes() == b"one"


def test_what_is_kept_is_not_written_again(thumbnails: Thumbnails) -> None:
    for data in (b"one", b"two"):
        thumbnails.keep("shop", ONE, data)
    assert thumbnails.read("shop", ONE) == b"one"


def test_they_go_one_by_one_or_with_their_collection(thumbnails: Thumbnails) -> None:
    for collection in ("shop", "clinic"):
        for sha256 in (ONE, TWO):
            thumbnails.write(collection, sha256, b"x")
    thumbnails.delete("clinic", ONE)
    thumbnails.delete_all("shop")
    kept = [thumbnails.read(collection, sha) for collection in ("shop", "clinic") for sha in (ONE, TWO)]
    assert kept == [None, None, None, b"x"]


@pytest.mark.parametrize(
    "sha256", ["", "../../broker", "1" * 63, "1" * 65, "G" * 64, ONE + "\n", "1" * 63 + "/"]
)
def test_what_is_no_hash_finds_nothing(thumbnails: Thumbnails, sha256: str) -> None:
    with pytest.raises(ValueError, match="no sha256"):
        thumbnails.read("shop", sha256)


def test_the_address_names_the_image_and_what_is_shown() -> None:
    payload = {"_image": {"sha256": ONE, "thumbnail": True}}
    path = "/v1/collections/shop/images/http%3A%2F%2Fa.example%2F%C3%BC.jpg%3Fx/thumbnail?of=1111111111111111"
    assert thumbnail_path("shop", "http://a.example/ü.jpg?x", payload) == path


def test_an_image_without_one_has_no_address() -> None:
    assert thumbnail_path("shop", "x", {"_image": {"sha256": ONE}}) is None

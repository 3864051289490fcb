"""workers/removal.py on the embedded engine, with thumbnails in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared.contract import ModelCard
from shared.files import Files
from shared.settings import Settings
from shared.thumbnails import Thumbnails
from workers.index.edge import EdgeIndex
from workers.index.interface import Index, Point
from workers.removal import forget, remove

CARD = ModelCard(name="vit", revision="1", preprocessing="p", dimension=4)
RED, BLUE = "a" * 64, "b" * 64


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = EdgeIndex(tmp_path / "index")
    index.create("shop", CARD)
    yield index
    index.close()


@pytest.fixture
def thumbnails(tmp_path: Path) -> Thumbnails:
    kept = Thumbnails(Files(Settings(files=str(tmp_path / "files"))))
    for sha256 in (RED, BLUE):
        kept.write("shop", sha256, b"webp")
    return kept


def add(index: Index, key: str, **images: str) -> None:
    """Images by id, each with the hash of its bytes."""
    points = [
        Point(id, {"_image": {"id": id, "sha256": sha256, "thumbnail": True}}, np.eye(4, dtype=np.float32)[0])
        for id, sha256 in images.items()
    ]
    index.upsert(key, points)


def kept(thumbnails: Thumbnails) -> list[str]:
    return [sha256 for sha256 in (RED, BLUE) if thumbnails.read("shop", sha256)]


def test_a_thumbnail_goes_with_the_last_image_of_its_bytes(index: Index, thumbnails: Thumbnails) -> None:
    add(index, "shop", one=RED, two=RED, three=BLUE)
    remove(index, thumbnails, "shop", ["one"])
    assert (index.count("shop"), kept(thumbnails)) == (2, [RED, BLUE])
    remove(index, thumbnails, "shop", ["two"])
    assert (index.count("shop"), kept(thumbnails)) == (1, [BLUE])


def test_of_several_that_go_at_once_each_thumbnail_goes(index: Index, thumbnails: Thumbnails) -> None:
    add(index, "shop", one=RED, two=RED, three=BLUE)
    remove(index, thumbnails, "shop", ["one", "two", "three", "four"])
    assert (index.count("shop"), kept(thumbnails)) == (0, [])


def test_of_many_that_go_it_is_asked_again_while_they_go(tmp_path: Path, index: Index) -> None:
    """Another worker may index such an image again while the thumbnails before it are deleted."""
    hashes = [f"{number:064x}" for number in range(100)]
    comes_back: list[str] = []

    class Slow(Thumbnails):
        def delete(self, collection: str, sha256: str) -> None:
            super().delete(collection, sha256)
            if not comes_back:
                comes_back.extend(each for each in hashes if thumbnails.read("shop", each))
                add(index, "shop", **{f"again-{each}": each for each in comes_back})

    thumbnails = Slow(Files(Settings(files=str(tmp_path / "files"))))
    for sha256 in hashes:
        thumbnails.write("shop", sha256, b"webp")
    forget(index, thumbnails, "shop", set(hashes))
    assert len(comes_back) == 99
    lost = [sha256 for sha256 in comes_back if thumbnails.read("shop", sha256) is None]
    assert len(lost) < 16


def test_an_image_of_any_version_keeps_it(index: Index, thumbnails: Thumbnails) -> None:
    index.create("shop@2", CARD)
    add(index, "shop@1", one=RED)
    add(index, "shop@2", one=BLUE, two=RED)
    forget(index, thumbnails, "shop@2", {RED, BLUE})
    assert kept(thumbnails) == [RED, BLUE]
    remove(index, thumbnails, "shop", ["one"])
    assert kept(thumbnails) == [RED]


def test_where_none_are_kept_images_go_all_the_same(index: Index) -> None:
    add(index, "shop", one=RED)
    remove(index, None, "shop", ["one"])
    assert index.count("shop") == 0

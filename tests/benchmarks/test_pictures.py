from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures import ensure_corpora
from demo.radios import Radios


@pytest.fixture
def radios(tmp_path: Path) -> Radios:
    """Two photographs and a PNG, in the data set's own layout."""
    folder = tmp_path / "radios"
    (folder / "images").mkdir(parents=True)
    names = ("first.jpg", "second.JPG", "third.png")
    with closing(sqlite3.connect(folder / "radios.db")) as database:
        database.execute("CREATE TABLE radio (id INTEGER, name TEXT)")
        database.execute("CREATE TABLE image (id INTEGER, path TEXT, radio_id INTEGER)")
        database.execute("INSERT INTO radio VALUES (1, 'a radio')")
        for number, name in enumerate(names):
            noise = np.random.default_rng(number).integers(0, 256, (30, 50, 3)).astype(np.uint8)
            Image.fromarray(noise).save(folder / "images" / name)
            database.execute("INSERT INTO image VALUES (?, ?, 1)", (number, f"images/{name}"))
        database.commit()
    return Radios(folder)


def test_photographs_come_in_three_sizes(radios: Radios, tmp_path: Path) -> None:
    corpora = ensure_corpora(radios, tmp_path / "bench")
    assert [file.name for file in corpora.originals] == ["first.jpg", "second.JPG"]
    for files, size in ((corpora.small, (600, 450)), (corpora.large, (3000, 2000))):
        assert len(files) == 2
        for file in files:
            with Image.open(file) as picture:
                assert (picture.format, picture.size) == ("JPEG", size)


def test_the_second_call_makes_nothing(radios: Radios, tmp_path: Path) -> None:
    made = ensure_corpora(radios, tmp_path / "bench").small
    times = [file.stat().st_mtime_ns for file in made]
    assert [file.stat().st_mtime_ns for file in ensure_corpora(radios, tmp_path / "bench").small] == times

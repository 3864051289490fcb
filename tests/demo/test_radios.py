from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from demo.radios import Photo, Radios, altered, unpack

TOP = "Flask-Image-Search-1.0.0"


def add(tar: tarfile.TarFile, name: str, content: bytes = b"content", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    tar.addfile(member, BytesIO(content))


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """What `unpack` makes of an archive that holds good, useless and malicious members."""
    with tarfile.open(tmp_path / "sdist.tar.gz", "w:gz") as tar:
        add(tar, f"{TOP}/setup.py", b"raise SystemExit")
        add(tar, f"{TOP}/LICENSE", b"MIT")
        add(tar, f"{TOP}/tests/test.db", b"db")
        add(tar, f"{TOP}/tests/test.jpg", b"unseen")
        add(tar, f"{TOP}/tests/image/Philips_1_2.JPG", b"photo")
        add(tar, f"{TOP}/examples/test.db")
        add(tar, f"{TOP}/tests/image/../../../evil.jpg")
        add(tar, "/tests/image/absolute.jpg")
        add(tar, f"{TOP}/tests/image/link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    folder = tmp_path / "out" / "radios"
    folder.mkdir(parents=True)
    unpack(tmp_path / "sdist.tar.gz", folder)
    return folder


def test_only_the_pictures_the_database_and_the_licence_are_unpacked(unpacked: Path) -> None:
    files = {str(path.relative_to(unpacked)): path.read_bytes() for path in unpacked.rglob("*.*")}
    assert files == {"images/Philips_1_2.JPG": b"photo", "radios.db": b"db", "unseen.jpg": b"unseen"}
    assert (unpacked / "LICENSE").read_bytes() == b"MIT"


def test_no_member_leads_out_of_the_folder(unpacked: Path) -> None:
    assert list(unpacked.parent.iterdir()) == [unpacked]
    assert not (unpacked / "images" / "link.jpg").is_symlink()
    assert not list(unpacked.parent.parent.rglob("evil.jpg"))


def test_the_database_tells_which_radio_a_photograph_shows(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "radios.db")) as database, database:
        database.execute("CREATE TABLE radio (id INTEGER PRIMARY KEY, name STRING NOT NULL)")
        database.execute("CREATE TABLE image (id INTEGER PRIMARY KEY, path VARCHAR, radio_id INTEGER)")
        database.execute("INSERT INTO radio VALUES (7, 'Philips_5H'), (8, 'Philips_042')")
        database.execute("INSERT INTO image VALUES (2, 'image/b.png', 7), (1, 'image/a.jpg', 8)")
    photos = Radios(tmp_path).photos()
    assert photos == [
        Photo(tmp_path / "images" / "a.jpg", "Philips 042", 8),
        Photo(tmp_path / "images" / "b.png", "Philips 5H", 7),
    ]
    assert [photo.id for photo in photos] == ["a.jpg", "b.png"]


def test_an_altered_copy_is_the_middle_at_half_the_size(tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 200), "red")
    picture.paste("blue", (20, 10, 380, 190))
    picture.save(tmp_path / "framed.png")
    with Image.open(BytesIO(altered(tmp_path / "framed.png"))) as copy:
        assert (copy.format, copy.size) == ("JPEG", (180, 90))
        red, _, blue = copy.getpixel((1, 1))  # type: ignore[misc]
        assert red < 30 < 220 < blue


def test_an_altered_copy_of_a_sideways_photograph_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(tmp_path / "sideways.jpg", exif=exif)
    with Image.open(BytesIO(altered(tmp_path / "sideways.jpg"))) as copy:
        assert copy.size == (90, 180)

"""The demo's pictures: 330 photographs of 51 vintage radios, as a shop would have them, several of each.

They are the test data of the source distribution Flask-Image-Search 1.0.0 (MIT, copyright 2020 Hanan
Fokkens), which also has a SQLite file that says which radio each of them shows. Nothing of it is committed.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps
from rich.console import Console

from demo.registry import Sdist, fetch

SDIST = Sdist(
    project="flask-image-search",
    filename="Flask-Image-Search-1.0.0.tar.gz",
    sha256="fa4600b11c4d48e93d2a408c1285c0725bfb37b99a22d9311caa4233f9246bd9",
    size=53_045_575,
)

# What is taken out of the archive, by its path there, and where it goes; all else stays inside.
_WANTED = (
    (re.compile(r"[^/]+/tests/image/([\w-]+\.(?:jpg|png|gif))", re.IGNORECASE), r"images/\1"),
    (re.compile(r"[^/]+/tests/test\.jpg"), "unseen.jpg"),
    (re.compile(r"[^/]+/tests/test\.db"), "radios.db"),
    (re.compile(r"[^/]+/LICENSE"), "LICENSE"),
)


@dataclass(frozen=True)
class Photo:
    """One photograph and the radio on it. `id`, the file's name, is what it is indexed under."""

    file: Path
    radio: str
    radio_id: int

    @property
    def id(self) -> str:
        return self.file.name


@dataclass(frozen=True)
class Radios:
    """The unpacked data set: `images/`, the database, and `unseen`, a photograph that the database lacks."""

    folder: Path

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def unseen(self) -> Path:
        return self.folder / "unseen.jpg"

    def photos(self) -> list[Photo]:
        """All 330, in the database's order."""
        query = """SELECT image.path, radio.name, radio.id FROM image JOIN radio ON radio.id = image.radio_id
                   ORDER BY image.id"""
        with closing(sqlite3.connect(self.folder / "radios.db")) as database:
            return [
                Photo(self.images / PurePosixPath(path).name, name.replace("_", " "), number)
                for path, name, number in database.execute(query)
            ]


def ensure(cache: Path, console: Console | None = None) -> Radios:
    """The radios under `cache`, downloaded and unpacked the first time. Raises DownloadError."""
    folder = cache / "radios"
    if not folder.exists():
        archive = fetch(SDIST, cache, console=console)
        part = Path(tempfile.mkdtemp(dir=cache, prefix="radios-"))
        try:
            unpack(archive, part)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Radios(folder.resolve())


def unpack(archive: Path, folder: Path) -> None:
    """Write the wanted members into `folder`, under names that we chose: none can lead out of it."""
    (folder / "images").mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _wanted_name(member.name)
            content = tar.extractfile(member) if name and member.isreg() else None
            if name and content:
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)


def _wanted_name(member: str) -> str | None:
    for pattern, name in _WANTED:
        if match := pattern.fullmatch(member):
            return match.expand(name)
    return None


def altered(picture: Path) -> bytes:
    """A JPEG of `picture` that a copier might have made: 5 % off each side, half the size, quality 40."""
    with Image.open(picture) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = upright.size
    cropped = upright.crop((width // 20, height // 20, width - width // 20, height - height // 20))
    small = cropped.resize((cropped.width // 2, cropped.height // 2))
    jpeg = BytesIO()
    small.save(jpeg, "JPEG", quality=40)
    return jpeg.getvalue()

"""The pictures that Pillow tests itself with, good and broken: 1,060 files of its source distribution.

Downloaded from the package index that pip is configured with, held against a pinned sha256, never committed.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

from demo.registry import Sdist, fetch

FILES = 1060
_SDIST = Sdist(
    project="pillow",
    filename="pillow-13.0.0.tar.gz",
    sha256="cdcd1ba258178f7356d74170c9a81ba4eab6a5d55748bc402a5a2a6fe6be3510",
    size=47_058_631,
)
_IMAGES = "pillow-13.0.0/Tests/images/"
_CACHE = Path(__file__).parents[1] / ".cache"


def pillow_corpus() -> Path:
    """The folder of the files, downloaded and unpacked the first time. Raises DownloadError."""
    folder = _CACHE / "pillow-images"
    if not folder.exists():
        archive = fetch(_SDIST, _CACHE)
        part = Path(tempfile.mkdtemp(dir=_CACHE, prefix="pillow-images-"))
        try:
            _unpack(archive, part)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(_IMAGES):
                member.name = member.name.removeprefix(_IMAGES)
                tar.extract(member, folder, filter="data")

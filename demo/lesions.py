"""A clinic's pictures: 1,184 photographs of skin lesions with patient, sex, age and site, as one Parquet file.

They are of the test set of the ISIC 2020 challenge, which tells no diagnoses, at 128 pixels (believed CC BY-NC: to try
the software with, and for nothing else), as the source distribution image_tabular 0.0.4 (Apache-2.0) carries them.
Nothing of it is committed.

    python -m demo.lesions     # writes .cache/lesions.parquet and says so
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from demo.registry import Sdist, fetch
from demo.stack import ROOT

SDIST = Sdist(
    project="image-tabular",
    filename="image_tabular-0.0.4.tar.gz",
    sha256="2dc8ca718c123406d6459391fa3d554dc89f009e05db61f22308e20c208ac14e",
    size=8_784_989,
)
FILE = "lesions.parquet"

_TABLE = re.compile(r"[^/]+/data/siim-isic-melanoma-classification/test\.csv")
_PICTURE = re.compile(r"[^/]+/data/siim-isic-melanoma-classification/test_128/(ISIC_\d+)\.jpg")
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("patient_id", pa.string()),
        ("sex", pa.string()),
        ("age", pa.float64()),
        ("site", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)


def ensure(cache: Path, console: Console | None = None) -> Path:
    """The Parquet file under `cache`, made the first time. Raises DownloadError."""
    target = cache / FILE
    if not target.exists():
        archive = fetch(SDIST, cache, console=console)
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".part", delete=False) as part:
            pq.write_table(pa.Table.from_pylist(list(rows(archive)), _SCHEMA), part)
        Path(part.name).replace(target)
    return target.resolve()


def rows(archive: Path) -> Iterator[dict[str, Any]]:
    """A row a picture that the archive holds, by its id. What the table does not say is None."""
    told: dict[str, dict[str, str]] = {}
    pictures: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content and _TABLE.fullmatch(member.name):
                told = {row["image_name"]: row for row in csv.DictReader(io.TextIOWrapper(content))}
            elif content and (found := _PICTURE.fullmatch(member.name)):
                pictures[found[1]] = content.read()
    for id, picture in sorted(pictures.items()):
        yield _row(id, told[id], picture)


def _row(id: str, told: dict[str, str], picture: bytes) -> dict[str, Any]:
    return {
        "image_id": id,
        "patient_id": told["patient_id"],
        "sex": told["sex"] or None,
        "age": float(told["age_approx"]) if told["age_approx"] else None,
        "site": told["anatom_site_general_challenge"] or None,
        "image": {"bytes": picture, "path": f"{id}.jpg"},
    }


if __name__ == "__main__":
    print(ensure(ROOT / ".cache").relative_to(ROOT))

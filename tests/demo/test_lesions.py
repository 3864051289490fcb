from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from demo import lesions

TOP = "image_tabular-0.0.4/data/siim-isic-melanoma-classification"
TABLE = b"""image_name,patient_id,sex,age_approx,anatom_site_general_challenge
ISIC_0000002,IP_1,male,45.0,head/neck
ISIC_0000001,IP_2,,,
ISIC_0000003,IP_3,female,30.0,torso
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "sdist.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {
            f"{TOP}/test_128/ISIC_0000002.jpg": b"two",
            f"{TOP}/test.csv": TABLE,
            f"{TOP}/test_128/ISIC_0000001.jpg": b"one",
            f"{TOP}/train_128/ISIC_0000009.jpg": b"another set",
            "image_tabular-0.0.4/setup.py": b"raise SystemExit",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return path


def test_a_row_a_picture_with_what_the_table_says_of_it(archive: Path) -> None:
    one, two = lesions.rows(archive)
    assert (two["image_id"], two["patient_id"], two["sex"], two["age"]) == (
        "ISIC_0000002",
        "IP_1",
        "male",
        45.0,
    )
    assert (two["site"], two["image"]["bytes"]) == ("head/neck", b"two")
    assert (one["image_id"], one["sex"], one["age"], one["site"]) == ("ISIC_0000001", None, None, None)


def test_the_file_is_made_once(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "fetch", lambda sdist, folder, console=None: archive)
    made = lesions.ensure(tmp_path)
    table = pq.read_table(made)
    assert table.column("image_id").to_pylist() == ["ISIC_0000001", "ISIC_0000002"]
    archive.unlink()
    assert lesions.ensure(tmp_path) == made
    assert not list(tmp_path.glob("*.part"))

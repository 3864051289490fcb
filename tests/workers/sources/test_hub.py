"""workers/sources/hub.py: data sets by name, out of a hub on loopback, and folders of images."""

from __future__ import annotations

import errno
import io
import os
import random
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import lesions
from tests.hub import COMMIT, OTHER_COMMIT, Hub
from tests.workers.sources.conftest import Read, read_apart, read_here, written
from workers.sources.hub import folder_rows
from workers.sources.rows import Unreadable

CARD = "---\nlicense: mit\n---\n"
NAME = "clinic/skin"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    yield served
    served.close()


def parquet(count: int, tmp_path: Path) -> bytes:
    lesions.lesions(count).to_parquet(tmp_path / "set.parquet", batch_size=6)
    return (tmp_path / "set.parquet").read_bytes()


def put_clinic(hub: Hub, tmp_path: Path, count: int = 20, commit: str = COMMIT) -> None:
    files = {
        "README.md": CARD.encode(),
        "data/train-00000-of-00001.parquet": parquet(count, tmp_path),
        "data/test-00000-of-00001.parquet": parquet(4, tmp_path),
    }
    hub.put(NAME, files, commit)


def read_set(**source: Any) -> Read:
    return read_apart(dataset=source.pop("dataset", NAME), **source)


def test_the_clinics_set_is_read_by_name(hub: Hub, tmp_path: Path) -> None:
    put_clinic(hub, tmp_path)
    read = read_set(id_column="image_id")
    assert (read.error, read.rows) == (None, 20)
    assert [item.payload for item in read.items] == [lesions.payload(number) for number in range(20)]
    assert read.images == {f"ISIC_{number:07}": lesions.jpeg(number) for number in range(20)}


def test_a_split_is_read_alone_and_one_that_is_none_is_named(hub: Hub, tmp_path: Path) -> None:
    put_clinic(hub, tmp_path)
    assert read_set(split="test").rows == 4
    assert read_set(split="dev").error == "There is no split `dev`; there are train, test."


def test_a_configuration_is_read_alone(hub: Hub) -> None:
    card = "---\nconfigs:\n- config_name: small\n  data_files: s.csv\n- config_name: large\n  data_files: l.csv\n---\n"
    files = {
        "README.md": card.encode(),
        "s.csv": b"url\nhttp://a.example/s\n",
        "l.csv": b"url\nhttp://a.example/l\n",
    }
    hub.put(NAME, files)
    assert [item.url for item in read_set(config="large").items] == ["http://a.example/l"]


def test_a_hub_that_is_away_is_tried_again_and_one_that_may_not_be_asked_is_said(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.close()
    with pytest.raises(ChildProcessError, match="Connection refused"):
        read_set()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in (read_set().error or "")


def test_the_first_frame_names_the_commit_and_a_reading_of_it_is_the_same_later(
    hub: Hub, tmp_path: Path
) -> None:
    put_clinic(hub, tmp_path)
    revision = read_set().frames[0].head.revision
    assert revision == COMMIT
    put_clinic(hub, tmp_path, count=5, commit=OTHER_COMMIT)
    hub.requests.clear()
    rest = read_set(revision=revision, id_column="image_id", given={"skip": 18})
    assert [item.id for item in rest.items] == ["ISIC_0000018", "ISIC_0000019"]
    assert not any(OTHER_COMMIT in request for request in hub.requests)


def test_files_that_were_read_to_their_end_are_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    names = [f"data/train-0000{number}-of-00003.parquet" for number in range(3)]
    for first in (0, 4, 8):
        ids = [str(number) for number in range(first, first + 4)]
        noise = [random.Random(id).randbytes(500_000) for id in ids]
        table = pa.table({"url": [f"http://a.example/{id}" for id in ids], "id": ids, "noise": noise})
        pq.write_table(table, tmp_path / f"{first}.parquet")
    hub.put(
        NAME,
        {
            name: (tmp_path / f"{first}.parquet").read_bytes()
            for name, first in zip(names, (0, 4, 8), strict=True)
        },
    )
    assert [item.id for item in read_set(given={"skip": 9}).items] == ["9", "10", "11"]
    assert [hub.sent[name] > 500_000 for name in names] == [False, False, True]
    assert [item.id for item in read_set(given={"skip": 3}).items] == [str(number) for number in range(3, 12)]
    assert read_set(given={"skip": 12}).items == []


def test_nobody_is_told_what_is_read(hub: Hub, tmp_path: Path) -> None:
    put_clinic(hub, tmp_path)
    read_set()
    asked = [
        request
        for request in hub.requests
        if not request.split()[1].lstrip("/").startswith(("api/datasets/", "datasets/"))
    ]
    assert asked == []
    assert not any(request.startswith("POST") for request in hub.requests)


def test_a_set_of_files_and_their_metadata_is_read_out_of_its_repository(hub: Hub) -> None:
    files = {f"train/{number}.jpg": lesions.jpeg(number) for number in range(3)}
    files["train/metadata.csv"] = b"file_name,dx,age\n0.jpg,mel,50\n1.jpg,nev,\n2.jpg,mel,70\n"
    hub.put(NAME, files)
    read = read_set(id_column="dx")
    assert [item.payload for item in read.items] == [{"age": 50.0}, {}, {"age": 70.0}]
    assert [frame.images for frame in read.frames if frame.images] == [
        {number: lesions.jpeg(number) for number in range(3)}
    ]


def test_bytes_are_a_picture_though_nobody_says_so(hub: Hub, tmp_path: Path) -> None:
    cells = [{"bytes": b"one", "path": None}, {"bytes": b"two", "path": None}]
    pq.write_table(pa.table({"id": ["a", "b"], "pic": cells}), tmp_path / "set.parquet")
    hub.put(NAME, {"train.parquet": (tmp_path / "set.parquet").read_bytes()})
    assert read_set().images == {"a": b"one", "b": b"two"} == read_here(tmp_path / "set.parquet").images


def test_a_set_of_tar_files_is_read_as_tar_files_are(hub: Hub) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (
            ("a.jpg", b"one"),
            ("a.json", b'{"dx": "mel"}'),
            ("b.jpg", b"two"),
            ("b.json", b"{}"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    hub.put(NAME, {"train-000.tar": buffer.getvalue()})
    read = read_set()
    assert read.frames[0].head.revision == COMMIT
    assert (read.images, read.items[0].payload) == ({"a": b"one", "b": b"two"}, {"dx": "mel"})


def test_a_set_of_csv_files_names_its_pictures_by_url(hub: Hub) -> None:
    hub.put(NAME, {"train.csv": b"id,url,price\n1,http://a.example/1,$5.50\n2,http://a.example/2,\n"})
    assert [(item.id, item.url, item.payload) for item in read_set(prices=["price"]).items] == [
        ("1", "http://a.example/1", {"price": 5.5}),
        ("2", "http://a.example/2", {}),
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"dataset": "clinic/none"}, "The hub shows no data set `clinic/none`"),
        ({"dataset": "csv"}, "no data set `csv`"),
        ({"dataset": "../../etc"}, "no name of a data set"),
        ({"dataset": "/etc"}, "no name of a data set"),
        ({"revision": "c" * 40}, f"has no revision `{'c' * 40}`"),
        ({"config": "other"}, "BuilderConfig 'other' not found"),
        ({"id_column": "id"}, "There is no column `id`; there are `image`, `image_id`"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_words(
    hub: Hub, tmp_path: Path, source: dict[str, str], words: str
) -> None:
    put_clinic(hub, tmp_path)
    assert words in (read_set(**source).error or "")


@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("place", ["/etc/hostname", "file:///etc/hostname", "ELSEWHERE", "s3://bucket/x.csv"])
def test_a_set_whose_data_is_elsewhere_is_not_read_and_nobody_else_is_asked(
    hub: Hub, place: str, file: str
) -> None:
    elsewhere = Hub()
    place = place.replace("ELSEWHERE", f"{elsewhere.url}/x.csv")
    config = f"configs:\n- config_name: default\n  data_files: '{place}'\n"
    files = {"README.md": CARD.encode(), "train.csv": b"url\nhttp://a.example/1\n"}
    hub.put(NAME, files | {file: (f"---\n{config}---\n" if file == "README.md" else config).encode()})
    read = read_set()
    elsewhere.close()
    assert (read.items, elsewhere.requests) == ([], [])
    assert f"`{NAME}`" in (read.error or "")


def test_a_set_that_is_a_program_is_never_run(hub: Hub, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = f"open({str(ran)!r}, 'w').close()\n"
    hub.put(NAME, {"skin.py": script.encode(), "README.md": CARD.encode()})
    assert "script" in (read_set().error or "")
    assert not ran.exists()


def test_a_path_that_leads_out_of_the_repository_is_not_read(hub: Hub, tmp_path: Path) -> None:
    rows = [{**lesions.lesion(number), "image": {"bytes": None, "path": path}} for number, path in enumerate((
        "/etc/hostname", "file:///etc/hostname", "zip:///etc/hostname::/etc/hostname",
        f"file:///etc/hostname::hf://datasets/{NAME}@{COMMIT}/README.md", "http://a.example/1.jpg",
        f"hf://datasets/other/set@{COMMIT}/1.jpg", f"hf://datasets/{NAME}@{COMMIT}/1.jpg",
    ))]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, lesions.FEATURES.arrow_schema), tmp_path / "set.parquet")
    hub.put(NAME, {"train.parquet": (tmp_path / "set.parquet").read_bytes(), "1.jpg": b"its own"})
    read = read_set(id_column="image_id")
    assert [item.refused.code if item.refused else item.url for item in read.items] == [
        *["bad_url"] * 4, "http://a.example/1.jpg", "bad_url", None,
    ]  # fmt: skip
    assert read.images == {"ISIC_0000006": b"its own"}


def put_pictures(hub: Hub, tmp_path: Path, *paths: str) -> None:
    """A set whose pictures stand at these paths, of which `1.jpg` is there."""
    rows = [
        {**lesions.lesion(number), "image": {"bytes": None, "path": path}}
        for number, path in enumerate(paths)
    ]
    pq.write_table(pa.Table.from_pylist(rows, lesions.FEATURES.arrow_schema), tmp_path / "set.parquet")
    hub.put(NAME, {"train.parquet": (tmp_path / "set.parquet").read_bytes(), "1.jpg": b"its own"})


def test_a_picture_that_the_hub_does_not_give_fails_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"hf://datasets/{NAME}@{COMMIT}"
    flawed = (f"{own}/none.jpg", f"{own}/no\0ne.jpg", f"zip://a::{own}/1.jpg", f"{own}/1.jpg::{own}/1.jpg")
    put_pictures(hub, tmp_path, *flawed, f"{own}/1.jpg")
    read = read_set(id_column="image_id")
    assert [read.refusals()[f"ISIC_000000{number}"][0] for number in range(4)] == ["bad_url"] * 4
    assert read.images == {"ISIC_0000004": b"its own"}
    answers(monkeypatch, hub, "/1.jpg", 403)
    assert [code for code, _ in read_set(id_column="image_id").refusals().values()] == ["bad_url"] * 5


def answers(monkeypatch: pytest.MonkeyPatch, hub: Hub, file: str, status: int) -> None:
    """From now on the hub answers so for the file."""
    whole = hub.answer
    monkeypatch.setattr(
        hub, "answer", lambda path, span: (status, b"", {}) if path.endswith(file) else whole(path, span)
    )


@pytest.mark.parametrize("status", [401, 507])
def test_a_hub_that_is_at_fault_itself_is_tried_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    put_pictures(hub, tmp_path, f"hf://datasets/{NAME}@{COMMIT}/1.jpg")
    answers(monkeypatch, hub, "/1.jpg", status)
    with pytest.raises(ChildProcessError, match=str(status)):
        read_set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for number in range(4):
        (tmp_path / "set" / f"{number}.jpg").write_bytes(lesions.jpeg(number))
    return tmp_path / "set"


def test_a_folder_is_read_with_what_its_metadata_says(folder: Path) -> None:
    lines = ["file_name,id,dx,age", "0.jpg,a,mel,50", "1.jpg,b,nev,", "2.jpg,c,mel,70", "3.jpg,d,mel,80"]
    written(folder / "metadata.csv", lines)
    read = read_here(folder)
    assert read.images == {id: lesions.jpeg(number) for number, id in enumerate("abcd")}
    assert [item.payload for item in read.items[:2]] == [{"dx": "mel", "age": 50.0}, {"dx": "nev"}]
    assert [item.id for item in read_here(folder, given={"skip": 3}).items] == ["d"]


def test_folders_in_a_folder_are_labels(folder: Path) -> None:
    for label, number in (("mel", 0), ("nev", 1)):
        (folder / label).mkdir()
        (folder / f"{number}.jpg").rename(folder / label / "x.jpg")
    for number in (2, 3):
        (folder / f"{number}.jpg").unlink()
    assert [item.payload for item in read_here(folder).items] == [{"label": "mel"}, {"label": "nev"}]


def test_a_link_out_of_the_folder_is_not_read(folder: Path, tmp_path: Path) -> None:
    written(tmp_path / "secret.jpg", b"secret")
    (folder / "4.jpg").symlink_to(tmp_path / "secret.jpg")
    read = read_here(folder)
    assert b"secret" not in read.images.values()
    assert len(read.images) == 4
    assert {code for code, _ in read.refusals().values()} == {"bad_url"}


def test_only_a_picture_of_the_folder_is_opened(folder: Path, tmp_path: Path) -> None:
    written(tmp_path / "secret.jpg", b"secret")
    with zipfile.ZipFile(tmp_path / "set" / "some.zip", "w") as archive:
        archive.writestr("a.jpg", b"in a zip")
    (folder / "round.jpg").symlink_to(folder / "round.jpg")
    (folder / "b").symlink_to(tmp_path / "secret.jpg")
    written(folder / "b::c", b"its name is read up to the colons")
    (folder / "d").symlink_to(folder / "b::c")
    read = folder_rows([str(folder)], "train", 0).open
    assert read
    assert read(f"{folder}/../set/0.jpg", 10) == lesions.jpeg(0)[:10]
    assert read(f"zip://a.jpg::{folder}/some.zip", 10) == b"in a zip"
    up = "/.." * 20
    for path in (
        f"{tmp_path}/secret.jpg",
        f"{tmp_path}/secret.jpg::{up}{folder}/0.jpg",
        f"{tmp_path}/secret.jpgzip://a::{up}{folder}/0.jpg",
        f"zip://a.jpg::{tmp_path}/secret.jpg::{up}{folder}/some.zip",
        f"zip://b.jpg::{folder}/some.zip",
        f"zip://a.jpg::{folder}/0.jpg",
        f"{folder}/no\0ne.jpg",
        f"{folder}/round.jpg",
        f"{folder}/d",
        f"{folder}/{'x' * 5000}",
        str(folder),
    ):
        with pytest.raises(Unreadable):
            read(path, 10)


def test_a_path_that_cannot_be_read_fails_its_row_alone(folder: Path) -> None:
    lines = ["file_name,id,pic", *(f"{number}.jpg,{number},{folder}/{number}.jpg" for number in range(4))]
    lines[2] = f"1.jpg,1,zip://a::{folder}/1.jpg"
    written(folder / "metadata.csv", lines)
    read = read_here(folder, image_column="pic")
    assert (read.error, [*read.refusals()], sorted(read.images)) == (None, ["1"], ["0", "2", "3"])


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE])
def test_a_disk_that_is_at_fault_itself_fails_no_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def away(path: str, mode: str) -> None:
        raise OSError(fault, os.strerror(fault))

    read = folder_rows([str(folder)], "train", 0).open
    assert read
    monkeypatch.setattr("workers.sources.hub.xopen", away)
    with pytest.raises(OSError, match=re.escape(os.strerror(fault))):
        read(f"{folder}/0.jpg", 10)


def test_a_folder_without_images_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert "`set` cannot be read" in (read_here(tmp_path / "set").error or "")
    assert "is a folder, and `csv` is a format of files" in (
        read_here(tmp_path / "set", format="csv").error or ""
    )

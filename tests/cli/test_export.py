from __future__ import annotations

import base64
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.cli.collection import image, serve

VECTORS = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
IMAGES = [
    image(
        "https://x.example/ä b?c=1",
        VECTORS[0],
        url="https://x.example/ä b?c=1",
        price=24.5,
        stock=True,
        tags=["a"],
    ),
    image('"quoted"\nid', VECTORS[1], price=None, count=3, id_like={"deep": [1, {"x": None}]}),
    image("a", VECTORS[2], price="unknown"),
    image("-0", VECTORS[3], count=2**60, when="2026-01-01", empty=[]),
]
IMAGES[2]["payload"] |= {"vector": "the client's own", "url": 1, "payload.id": True}


@pytest.fixture
def exported(api, answer, run, tmp_path):
    serve(api, answer, "shop", IMAGES)
    result = run("export", "shop", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    return tmp_path / "out"


def test_the_vectors_stand_in_numpys_own_form_beside_their_ids(exported):
    ids = [
        json.loads(line) if line.startswith('"') else line
        for line in (exported / "ids.txt").read_text().split("\n")[:-1]
    ]
    by_id = {each["id"]: base64.b64decode(each["vector"]) for each in IMAGES}
    vectors = np.load(exported / "vectors.npy")
    assert ids == sorted(by_id)
    assert [row.tobytes() for row in vectors] == [by_id[id] for id in ids]


def test_the_table_holds_everything_in_columns_of_their_types(exported):
    table = pq.read_table(exported / "images.parquet")
    assert str(table.schema.field("stock").type) == "bool"
    assert str(table.schema.field("count").type) == "int64"
    assert table.num_rows == 4
    assert "_image.sha256" in table.schema.names


def test_what_is_brought_back_is_what_was_exported(exported, api, answer, run, job):
    api.on("PUT", "/v1/collections/copy", answer({"name": "copy"}, 201))
    api.on("POST", "/v1/collections/copy/jobs", answer(job(id="j9"), 202))
    api.on("GET", "/v1/jobs/j9", answer(job(id="j9", total=4, indexed=4)))
    result = run("import", str(exported), "--collection", "copy")
    assert result.exit_code == 0, result.output
    [made] = api.sent("PUT", "/v1/collections/copy")
    assert json.loads(made.body) == {"model": "m", "indexes": {"dx": "keyword"}}
    sent = b"".join(one.body for one in api.sent("POST", "/v1/collections/copy/jobs"))
    items = {item["id"]: item for item in map(json.loads, sent.splitlines())}
    assert set(items) == {each["id"] for each in IMAGES}
    for each in IMAGES:
        item, payload = items[each["id"]], dict(each["payload"])
        system = payload.pop("_image")
        assert item["vector"] == each["vector"]
        assert item["payload"] == payload
        assert item.get("url") == each["url"]
        assert item["fingerprint"] == "m@1/p"
        assert item["image"] == {name: value for name, value in system.items() if name not in ("id", "url")}


def test_a_folder_that_holds_an_export_is_left_as_it_is(exported, run):
    before = (exported / "images.parquet").read_bytes()
    result = run("export", "shop", str(exported))
    assert result.exit_code == 1
    assert "holds an export already" in result.output
    assert (exported / "images.parquet").read_bytes() == before


def test_a_folder_that_is_no_export_is_refused_in_words(run, tmp_path):
    result = run("import", str(tmp_path), "--collection", "copy")
    assert result.exit_code == 1
    assert "not what `lookalike export` writes" in result.output

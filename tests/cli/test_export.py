from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from cli import export as exporting
from tests.cli.collection import image, serve

JOBS = "/v1/collections/shoes/jobs"
ODD_IDS = ["https://a.example/ü?x=1&y=2", "line\nbreak", '"quoted"', "a\tb", "\u2028", "=1+1", "🥾 boot", " "]


def shoes():
    rng = np.random.default_rng(1)
    payloads = [
        {"dx": "nv", "age": 40.0, "sold": True, "stock": 3, "tags": ["a", "b"], "list price": 24.99},
        {"dx": "", "age": 41.5, "sold": False, "stock": 2**53 + 1, "tags": []},
        {"id": "own", "url": 7, "vector": [1], "payload.id": "deep", "payload.payload.x": 1},
        {"mixed": 1, "none": None, "nested": {"a": [1, 1.0, {"b": None}]}},
        {"mixed": "1", "none": "x"},
        {"mixed": 1.0},
        {},
        {"ümlaut": "ß", "image.sha256": "mine"},
    ]
    made = [
        image(id, rng.normal(size=5), url=None if n % 3 == 0 else f"http://a.example/{n}")
        for n, id in enumerate(ODD_IDS)
    ]
    for one, payload in zip(made, payloads, strict=True):
        one["payload"] |= payload
    return made


@pytest.fixture
def folder(api, answer, run, tmp_path):
    serve(api, answer, "shoes", shoes())
    result = run("export", "shoes", str(tmp_path / "shoes"))
    assert result.exit_code == 0, result.output
    return tmp_path / "shoes"


@pytest.fixture
def bring_back(api, answer, job, run):
    """Run `import`; the items that were sent."""
    api.on("PUT", "/v1/collections/shoes", answer({}, 201))
    api.on("POST", JOBS, answer(job(state="queued"), 202))
    api.on("GET", "/v1/jobs/j1", answer(job()))

    def bring_back(folder, *arguments):
        result = run("import", str(folder), *arguments)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for one in api.sent("POST", JOBS) for line in one.body.splitlines()]

    return bring_back


def test_what_comes_back_is_what_was_there(folder, bring_back):
    sent = {item["id"]: item for item in bring_back(folder)}
    there = {one["id"]: one for one in shoes()}
    assert sorted(sent) == sorted(there)
    for id, one in there.items():
        system = one["payload"].pop("_image")
        assert json.dumps(sent[id]["payload"], sort_keys=True) == json.dumps(one["payload"], sort_keys=True)
        assert sent[id]["vector"] == one["vector"]  # base64 of the same bytes
        assert sent[id].get("url") == one["url"]
        assert sent[id]["fingerprint"] == system["model"]
        assert sent[id]["image"] == {key: value for key, value in system.items() if key not in ("id", "url")}


def test_the_collection_is_made_under_its_model_and_indexes(api, folder, bring_back):
    bring_back(folder)
    (made,) = api.sent("PUT", "/v1/collections/shoes")
    assert json.loads(made.body) == {"model": "m", "indexes": {"dx": "keyword"}}


def test_another_name_is_another_collection(api, answer, job, run, folder):
    api.on("PUT", "/v1/collections/boots", answer({}, 201))
    api.on("POST", "/v1/collections/boots/jobs", answer(job(state="queued"), 202))
    api.on("GET", "/v1/jobs/j1", answer(job(collection="boots")))
    assert run("import", str(folder), "--collection", "boots").exit_code == 0
    assert len(api.sent("POST", "/v1/collections/boots/jobs")) == 1


def test_a_large_folder_is_sent_as_several_jobs(monkeypatch, api, folder, bring_back):
    monkeypatch.setattr(exporting, "_BYTES_A_JOB", 500)
    assert len(bring_back(folder)) == len(ODD_IDS)
    assert len(api.sent("POST", JOBS)) > 2


def test_columns_are_typed_and_in_the_order_of_the_ids(folder):
    table = pq.read_table(folder / "images.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["dx"] == "string"
    assert types["age"] == "double"
    assert types["sold"] == "bool"
    assert types["stock"] == "int64"
    assert types["tags"] == "list<item: string>" or types["tags"] == "list<element: string>"
    assert types["mixed"] == "extension<arrow.json>"
    assert types["_image.width"] == "int64"
    assert types["vector"] == "fixed_size_list<element: float>[5]"
    assert table["id"].to_pylist() == sorted(ODD_IDS)
    assert table["payload.id"].to_pylist().count("own") == 1


def test_numpy_and_the_ids_agree_with_the_table(folder):
    vectors = np.load(folder / "vectors.npy")
    table = pq.read_table(folder / "images.parquet")
    assert vectors.dtype == np.float32
    assert vectors.tobytes() == np.array(table["vector"].to_pylist(), np.float32).tobytes()
    lines = (folder / "ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) if line.startswith('"') else line for line in lines] == sorted(ODD_IDS)


def test_the_same_collection_is_the_same_bytes(api, answer, run, folder, tmp_path):
    serve(api, answer, "shoes", shoes()[::-1])
    run("export", "shoes", str(tmp_path / "again"))
    for name in ("images.parquet", "vectors.npy", "ids.txt", "collection.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_an_export_is_never_written_over(run, folder):
    before = (folder / "images.parquet").read_bytes()
    result = run("export", "shoes", str(folder))
    assert result.exit_code == 1
    assert "holds an export already" in result.stderr
    assert (folder / "images.parquet").read_bytes() == before


@pytest.mark.parametrize("spoil", [None, "collection.json", "images.parquet"])
def test_a_folder_that_is_no_export_is_said(run, api, folder, tmp_path, spoil):
    if spoil is None:
        folder = tmp_path
    elif spoil == "collection.json":
        (folder / spoil).write_text("[]")
    else:
        (folder / spoil).unlink()
    result = run("import", str(folder))
    assert result.exit_code == 1
    assert "is not what `lookalike export` writes" in result.stderr
    assert not api.sent("PUT", "/v1/collections/shoes")


def test_a_table_that_is_damaged_is_said(api, answer, run, folder):
    api.on("PUT", "/v1/collections/shoes", answer({}, 201))
    (folder / "images.parquet").write_bytes(b"PAR1 and no more")
    result = run("import", str(folder))
    assert result.exit_code == 1
    assert "cannot be read as the export wrote it" in result.stderr


def test_items_that_fail_make_the_exit_code_1(api, answer, job, run, folder):
    api.on("PUT", "/v1/collections/shoes", answer({}, 201))
    api.on("POST", JOBS, answer(job(state="queued"), 202))
    api.on("GET", "/v1/jobs/j1", answer(job(indexed=2, failed=1, failures={"payload_invalid": 1})))
    result = run("import", str(folder))
    assert result.exit_code == 1
    assert "payload_invalid" in result.stdout

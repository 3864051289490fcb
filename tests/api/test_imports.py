"""api/imports.py and api/source.py: what a client may have read, and what it becomes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import Source, Sync
from shared.errands import Errand, feed_key
from shared.files import Files
from shared.ledger import Ledger
from shared.settings import Settings
from tests.api.conftest import assert_problem

IMPORTS = "/v1/collections/shop/imports"
DATASET = {"dataset": "marmal88/skin_cancer"}
KEY = {"Idempotency-Key": "feed-1"}


@pytest.fixture
def files(tmp_path: Path, settings: Settings) -> Files:
    return Files(settings.model_copy(update={"files": str(tmp_path)}))


@pytest.fixture
def keeping(client_with: Callable[..., FlaskClient], tmp_path: Path) -> FlaskClient:
    """An API that keeps files."""
    return client_with(files=str(tmp_path))


def upload(
    client: FlaskClient, source: Any = None, *, name: str = "feed.csv", data: bytes = b"url\n", **options: Any
) -> TestResponse:
    parts: dict[str, Any] = {"file": (io.BytesIO(data), name)}
    if source is not None:
        parts["source"] = json.dumps(source)
    return client.post(IMPORTS, data=parts, content_type="multipart/form-data", **options)


def taken(ledger: Ledger) -> Errand:
    errand = ledger.errands.take("imports")
    assert errand
    return errand


def test_a_data_set_becomes_a_job_that_is_accepting_while_a_worker_reads_it(
    client: FlaskClient, ledger: Ledger
) -> None:
    given = {**DATASET, "image_column": "image", "id_column": "image_id", "fill": {"age": 0}, "limit": 100}
    answer = client.post(IMPORTS, json=given)
    assert answer.status_code == 202, answer.text
    job = answer.json
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["collection"], job["state"], job["total"], job["pending"]) == ("shop", "accepting", None, 0)
    assert "sync" not in job
    errand = taken(ledger)
    assert (errand.job, errand.source) == (job["id"], Source.model_validate(given))


@pytest.mark.parametrize("given", ["https://shop.example/feed.csv", ["https://shop.example/a.csv"] * 3])
def test_a_feed_by_url_is_one_or_several(keeping: FlaskClient, ledger: Ledger, given: Any) -> None:
    assert keeping.post(IMPORTS, json={"files": given, "separator": "|"}).status_code == 202
    source = taken(ledger).source
    assert source
    assert source.files == ([given] if isinstance(given, str) else given)


def test_uploaded_files_are_kept_until_they_are_read(
    keeping: FlaskClient, ledger: Ledger, files: Files
) -> None:
    job = upload(keeping, {"url_column": "Image"}, name="../my feed?.csv", data=b"Image\n").json["id"]
    source = taken(ledger).source
    assert source == Source(upload=["1-my_feed_.csv"], url_column="Image")
    assert files.read(feed_key(job, "1-my_feed_.csv")) == b"Image\n"


def test_several_files_are_read_in_order(keeping: FlaskClient, ledger: Ledger, files: Files) -> None:
    parts = {"file": [(io.BytesIO(b"%d" % n), "same.csv") for n in range(3)]}
    job = keeping.post(IMPORTS, data=parts, content_type="multipart/form-data").json["id"]
    source = taken(ledger).source
    assert source
    assert source.upload == ["1-same.csv", "2-same.csv", "3-same.csv"]
    assert files.read(feed_key(job, "3-same.csv")) == b"2"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["exactly one", "none"]),
        ({"dataset": None}, ["exactly one"]),
        ({**DATASET, "files": "https://a.example/x.csv"}, ["dataset and files"]),
        ({"dataset": "/etc"}, ["/etc", "hub"]),
        ({"dataset": "a/../b"}, ["hub"]),
        ({"dataset": "a/b/c"}, ["hub"]),
        ({"dataset": 3}, ["dataset"]),
        ({**DATASET, "upload": ["1-x"]}, ["upload", "not a field"]),
        ({**DATASET, "collection": "other"}, ["collection", "not a field"]),
        ({**DATASET, "splitt": "test"}, ["splitt", "split"]),
        ({**DATASET, "limit": 0}, ["limit"]),
        ({**DATASET, "limit": "5"}, ["limit"]),
        ({**DATASET, "fraction": 1.5}, ["fraction"]),
        ({**DATASET, "fraction": 0}, ["fraction"]),
        ({**DATASET, "format": "xlsx"}, ["format"]),
        ({**DATASET, "fill": {"_x": 1}}, ["fill", "_x"]),
        ({**DATASET, "prices": "price"}, ["prices"]),
        ({**DATASET, "split": ""}, ["split"]),
        ({"files": []}, ["files"]),
        ({"files": ["https://a.example/x.csv"] * 1001}, ["files"]),
        ({"files": "https://a.example/" + "x" * 9000}, ["8,192"]),
        ({"files": "ftp://a.example/x.csv"}, ["ftp://a.example/x.csv"]),
        ({"files": "feed.csv"}, ["feed.csv", "whole path"]),
        ({"files": "/etc/passwd"}, ["/etc/passwd", "LOOKALIKE_IMPORT_FOLDERS"]),
        ({"files": "/etc\0/passwd"}, ["path"]),
        ({**DATASET, "sync_share": 0.1}, ["sync=true"]),
        ({**DATASET, "force": True}, ["sync=true"]),
        ({**DATASET, "sync": True, "sync_share": 2}, ["sync_share"]),
        ({**DATASET, "sync": "maybe"}, ["sync"]),
        ({**DATASET, "sync": True, "limit": 10}, ["limit", "trial"]),
        ({**DATASET, "sync": True, "fraction": 0.5}, ["fraction"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_words(
    keeping: FlaskClient, ledger: Ledger, given: dict[str, Any], words: list[str]
) -> None:
    assert_problem(keeping.post(IMPORTS, json=given), 422, "invalid_request", *words)
    assert ledger.jobs(1)[0] == []


def test_bodies_that_are_none_are_refused(keeping: FlaskClient) -> None:
    assert keeping.post(IMPORTS, json=[DATASET]).status_code == 422
    assert_problem(keeping.post(IMPORTS, data=b"{", content_type="application/json"), 400, "invalid_body")
    assert_problem(
        keeping.post(IMPORTS, data=b"url\n", content_type="text/csv"), 415, "unsupported_media_type"
    )
    assert_problem(upload(keeping, [1]), 422, "invalid_body", "source")
    assert_problem(upload(keeping, DATASET), 422, "invalid_request", "dataset and upload")
    no_file = keeping.post(IMPORTS, data={"source": "{}"}, content_type="multipart/form-data")
    assert_problem(no_file, 422, "invalid_body", "`file`")
    other = {"file": (io.BytesIO(b"x"), "a.csv"), "image": (io.BytesIO(b"x"), "b.jpg")}
    assert_problem(
        keeping.post(IMPORTS, data=other, content_type="multipart/form-data"), 422, "invalid_request", "image"
    )


def test_names_and_arguments_are_checked(keeping: FlaskClient) -> None:
    assert_problem(keeping.post("/v1/collections/a%20b/imports", json=DATASET), 422, "invalid_name")
    assert_problem(keeping.post(f"{IMPORTS}?limit=3", json=DATASET), 422, "invalid_request", "limit")


def test_a_server_that_keeps_no_files_takes_no_feed(client: FlaskClient) -> None:
    for answer in (client.post(IMPORTS, json={"files": "https://a.example/x.csv"}), upload(client)):
        assert_problem(answer, 422, "invalid_request", "LOOKALIKE_FILES")
    assert client.post(IMPORTS, json=DATASET).status_code == 202


def test_files_of_the_server_are_named_below_its_folders(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(import_folders=(Path("/srv/feeds"),))
    assert client.post(IMPORTS, json={"files": "/srv/feeds/shop/a.csv"}).status_code == 202
    for path in ("/srv/feeds/../secret.csv", "/srv/feedsX/a.csv", "/srv", "/"):
        assert_problem(client.post(IMPORTS, json={"files": path}), 422, "invalid_request", "/srv/feeds")


@pytest.mark.parametrize(
    ("arguments", "body", "sync"),
    [
        ("?sync=true", {}, Sync()),
        ("", {"sync": True}, Sync()),
        ("?sync=true&sync_share=0.5&force=true", {}, Sync(share=0.5, force=True)),
        ("", {"sync": True, "sync_share": 0, "force": True}, Sync(share=0, force=True)),
        ("?sync=false", {"sync": True}, None),
        ("?sync=false", {}, None),
    ],
)
def test_a_sync_is_asked_for_in_the_address_or_the_body(
    client: FlaskClient, ledger: Ledger, arguments: str, body: dict[str, Any], sync: Sync | None
) -> None:
    job = client.post(f"{IMPORTS}{arguments}", json={**DATASET, **body}).json
    assert taken(ledger).sync == sync
    assert ("sync" in job) is ("removed" in job) is (sync is not None)
    if sync:
        assert (job["removed"], job["sync"]) == (0, {"absent": None, "share": None, "refused": None})


def test_the_same_import_finds_its_job(keeping: FlaskClient, ledger: Ledger) -> None:
    first, again = (keeping.post(IMPORTS, json={**DATASET, "split": "train"}, headers=KEY) for _ in range(2))
    assert (first.status_code, again.json) == (202, first.json)
    for other in ({**DATASET, "split": "test"}, {**DATASET, "sync": True}):
        answer = keeping.post(IMPORTS, json=other, headers=KEY)
        assert_problem(answer, 422, "idempotency_conflict", first.json["id"])
    assert len(ledger.jobs(10)[0]) == 1
    assert ledger.snapshot(first.json["id"]).state == "accepting"


def test_the_same_upload_finds_its_job(keeping: FlaskClient, ledger: Ledger) -> None:
    first, again = (upload(keeping, {"separator": "|"}, headers=KEY) for _ in range(2))
    assert first.json["id"] == again.json["id"]
    for other in (upload(keeping, headers=KEY), upload(keeping, {"separator": "|"}, data=b"x", headers=KEY)):
        assert_problem(other, 422, "idempotency_conflict")


def test_the_api_may_die_right_before_the_import_is_begun(
    keeping: FlaskClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "begin_import", _die)
        with pytest.raises(SystemExit):
            keeping.post(IMPORTS, json=DATASET, headers=KEY)
    assert ledger.errands.take("imports") is None
    job = keeping.post(IMPORTS, json=DATASET, headers=KEY).json["id"]
    assert taken(ledger).job == job
    assert len(ledger.jobs(10)[0]) == 1


def test_a_job_that_is_cancelled_is_handed_to_a_worker_to_clear_up(
    keeping: FlaskClient, ledger: Ledger
) -> None:
    job = upload(keeping).json["id"]
    assert keeping.delete(f"/v1/jobs/{job}").json["state"] == "cancelled"
    errand = taken(ledger)
    assert (errand.job, errand.is_open) == (job, False)


def test_files_that_cannot_be_kept_cancel_the_job(
    client_with: Callable[..., FlaskClient], tmp_path: Path, ledger: Ledger
) -> None:
    (tmp_path / "feeds").write_text("in the way of a folder")
    answer = upload(client_with(files=str(tmp_path)))
    problem = assert_problem(answer, 503, "files_unavailable")
    assert ledger.snapshot(problem["job"]).state == "cancelled"


class Interrupted(Files):
    """Files whose keeping takes so long that something happens meanwhile."""

    meanwhile: Callable[[], object]

    def write(self, key: str, data: Any) -> None:
        super().write(key, data)
        Interrupted.meanwhile()


def test_a_job_that_is_cancelled_while_its_files_are_kept_says_so_and_keeps_none(
    client_with: Callable[..., FlaskClient],
    tmp_path: Path,
    ledger: Ledger,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.parts.Files", Interrupted)
    client = client_with(files=str(tmp_path))
    monkeypatch.setattr(
        Interrupted, "meanwhile", lambda: ledger.cancel(ledger.jobs(1)[0][0].id), raising=False
    )
    problem = assert_problem(upload(client), 409, "job_cancelled", "import it again")
    assert ledger.snapshot(problem["job"]).state == "cancelled"
    assert files.read(feed_key(problem["job"], "1-feed.csv")) is None


def test_a_job_that_was_cancelled_since_is_still_the_same_requests(
    keeping: FlaskClient, ledger: Ledger
) -> None:
    first = upload(keeping, headers=KEY).json["id"]
    ledger.cancel(first)
    again = upload(keeping, headers=KEY)
    assert (again.status_code, again.json["id"], again.json["state"]) == (202, first, "cancelled")


def test_a_callback_is_not_built_here_either(keeping: FlaskClient) -> None:
    callback = {"callback_url": "https://shop.example/done"}
    for answer in (
        keeping.post(IMPORTS, json={**DATASET, **callback}),
        keeping.post(IMPORTS, json=DATASET, query_string=callback),
        upload(keeping, callback),
    ):
        assert_problem(answer, 422, "not_implemented", "callback_url")


def test_a_full_backlog_takes_no_import(
    client_with: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    redis_client.set("lookalike:pending", 11)
    assert_problem(client_with(max_pending=10).post(IMPORTS, json=DATASET), 429, "backlog_full")


def _die(*_: object) -> None:
    raise SystemExit

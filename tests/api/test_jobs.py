"""api/jobs.py and api/submission.py: submit, see, list, cancel, failures."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import limits
from shared.contract import ROUTE_COPY, Chunk, ChunkReport, Item, ItemOutcome, Refusal, Source
from shared.errors import FailureCode
from shared.ledger import Ledger
from shared.parcels import Parcel
from shared.settings import Settings
from shared.uploads import Uploads
from tests.api.conftest import Workers, assert_problem

JOBS = "/v1/collections/shop/jobs"
NDJSON = "application/x-ndjson"


def lines(count: int) -> Iterator[bytes]:
    for n in range(count):
        yield b'{"url":"http://a.example/%d.jpg"}\n' % n


def submit(client: FlaskClient, body: bytes, **headers: str) -> TestResponse:
    return client.post(JOBS, data=body, content_type=NDJSON, headers=headers)


class Pieces:
    """A body that arrives piece by piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        data = self._rest or next(self._pieces, b"")
        self._rest = data[size:]
        return data[:size]


def submit_stream(client: FlaskClient, pieces: Iterator[bytes]) -> TestResponse:
    """As a server hands on a body without a length."""
    overrides = {
        "wsgi.input": Pieces(pieces),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": "",
    }
    return client.post(JOBS, content_type=NDJSON, environ_overrides=overrides)


def failed(chunk: Chunk) -> ChunkReport:
    outcomes = [
        ItemOutcome(item, "failed", FailureCode.HTTP_STATUS, 'It said "404", ü.', False)
        for item in chunk.items
    ]
    return ChunkReport(chunk, outcomes)


@pytest.fixture
def job_of_failures(client: FlaskClient, ledger: Ledger) -> str:
    job = submit(client, b"".join(lines(150))).json["id"]
    for number in (1, 2, 3):
        chunk = ledger.claim(job, number)
        assert chunk
        ledger.commit(failed(chunk))
    return job


def test_a_submission_is_a_job_to_be_found(client: FlaskClient) -> None:
    response = submit(client, b"".join(lines(3)))
    job = response.json
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert client.get(response.headers["Location"]).json == job
    assert list(job) == [
        "id", "collection", "state", "total", "indexed", "unchanged", "failed", "pending", "failures",
        "images_per_second", "eta_seconds", "created_at", "finished_at",
    ]  # fmt: skip
    assert (job["collection"], job["state"], job["total"], job["pending"]) == ("shop", "queued", 3, 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job["created_at"])
    assert job["finished_at"] is None


def test_every_chunk_is_in_the_ledger_and_on_the_queue(
    client: FlaskClient, redis_client: redis.Redis, ledger: Ledger, settings: Settings
) -> None:
    job = submit(client, b"".join(lines(100_000))).json
    chunks = -(-100_000 // settings.chunk_size)
    assert (job["total"], ledger.pending_chunks(), redis_client.llen("ingest")) == (100_000, chunks, chunks)
    last = ledger.claim(job["id"], chunks)
    assert last is not None
    assert last.items[-1].url == "http://a.example/99999.jpg"


def test_unusable_items_do_not_harm_the_others(
    client: FlaskClient, accepted: Callable[[TestResponse], list[Item]]
) -> None:
    body = b'{"url":""}\n{"url":"http://a.example/1","payload":{"_x":1}}\n{"url":"http://a.example/2"}\n'
    body += b'{"url":"http://a.example/3","payload":{"n":NaN}}\n'
    codes = [item.refused and item.refused.code for item in accepted(submit(client, body))]
    assert codes == ["bad_url", "payload_invalid", None, "payload_invalid"]


def test_a_body_that_goes_wrong_late_cancels_its_job_and_names_it(
    client: FlaskClient, ledger: Ledger
) -> None:
    problem = assert_problem(submit(client, b"".join(lines(100)) + b"{"), 400, "invalid_body", "Line 101")
    job = ledger.snapshot(problem["job"])
    assert (job.state, job.failures, job.pending) == ("cancelled", {"cancelled": 64}, 0)
    assert job.last_error is not None
    assert "Line 101" in job.last_error
    assert problem["job"] in problem["detail"]


def test_a_body_that_goes_wrong_early_leaves_no_job(client: FlaskClient, ledger: Ledger) -> None:
    problem = assert_problem(submit(client, b"".join(lines(10)) + b"{"), 400, "invalid_body")
    assert "job" not in problem
    assert ledger.jobs(10)[0] == []


def test_a_job_that_is_cancelled_while_its_body_arrives_takes_no_more(
    client: FlaskClient, ledger: Ledger
) -> None:
    def body() -> Iterator[bytes]:
        yield from lines(5000)
        ledger.cancel(ledger.jobs(1)[0][0].id)
        yield from lines(5000)

    response = submit_stream(client, body())
    assert_problem(response, 409, "job_cancelled")


def test_a_body_over_its_cap_is_refused(client_with: Callable[..., FlaskClient]) -> None:
    assert_problem(
        submit(client_with(max_body_bytes=1024), b"x" * 1025), 413, "body_too_large", "MAX_BODY_BYTES"
    )


def test_a_body_without_a_length_is_counted(client_with: Callable[..., FlaskClient], ledger: Ledger) -> None:
    response = submit_stream(client_with(max_body_bytes=8192), lines(1000))
    problem = assert_problem(response, 413, "body_too_large")
    assert ledger.snapshot(problem["job"]).state == "cancelled"


@pytest.mark.parametrize("name", ["-a", "_a", "a.b", "ü", "a b", "x" * 129])
def test_a_bad_name_is_refused(client: FlaskClient, name: str) -> None:
    response = client.post(f"/v1/collections/{name}/jobs", data=b"", content_type=NDJSON)
    assert_problem(response, 422, "invalid_name")


def test_jobs_are_listed_newest_first_page_by_page(client: FlaskClient) -> None:
    ids = [submit(client, b"".join(lines(1))).json["id"] for _ in range(5)]
    listed, cursor = [], ""
    while cursor is not None:
        page = client.get("/v1/jobs", query_string={"limit": 2, "cursor": cursor}).json
        listed += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
    assert listed == ids[::-1]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.5", "²", "9" * 5000])
def test_a_bad_limit_is_refused(client: FlaskClient, limit: str) -> None:
    assert_problem(client.get(f"/v1/jobs?limit={limit}"), 422, "invalid_request", "`limit`")


@pytest.mark.parametrize("cursor", ["x", "(1", "-1", "1.5", "9" * 30, "x" * 5000])
def test_a_bad_cursor_is_refused(client: FlaskClient, job_of_failures: str, cursor: str) -> None:
    assert_problem(client.get(f"/v1/jobs?cursor={cursor}"), 422, "invalid_request", "cursor")
    if cursor != "1.5":
        response = client.get(f"/v1/jobs/{job_of_failures}/failures?cursor={cursor}")
        assert_problem(response, 422, "invalid_request", "cursor")


@pytest.mark.parametrize("id", ["job_00000000000000000000", "x", "job_", "ü"])
def test_an_unknown_job_is_not_found(client: FlaskClient, id: str) -> None:
    assert_problem(client.get(f"/v1/jobs/{id}"), 404, "job_not_found")
    assert_problem(client.delete(f"/v1/jobs/{id}"), 404, "job_not_found")
    assert_problem(client.get(f"/v1/jobs/{id}/failures"), 404, "job_not_found")


def test_the_parts_of_a_job_are_not_jobs(client: FlaskClient, job_of_failures: str) -> None:
    for part in ("chunks", "leases", "failures"):
        assert_problem(client.get(f"/v1/jobs/{job_of_failures}:{part}"), 404, "job_not_found")


def test_a_cancelled_job_says_so(client: FlaskClient) -> None:
    job = submit(client, b"".join(lines(3))).json["id"]
    response = client.delete(f"/v1/jobs/{job}")
    assert (response.status_code, response.json["state"], response.json["pending"]) == (202, "cancelled", 0)
    assert response.json["failures"] == {"cancelled": 3}
    assert response.json["last_error"] == "It was cancelled by a request."


def test_failures_come_in_pages(client: FlaskClient, job_of_failures: str) -> None:
    rows, cursor = [], ""
    while cursor is not None:
        query = {"limit": 40, "cursor": cursor}
        page = client.get(f"/v1/jobs/{job_of_failures}/failures", query_string=query).json
        rows += page["failures"]
        cursor = page["next_cursor"]
    assert [row["url"] for row in rows] == [f"http://a.example/{n}.jpg" for n in range(150)]
    assert rows[0] == {
        "id": "http://a.example/0.jpg",
        "url": "http://a.example/0.jpg",
        "code": "http_status",
        "detail": 'It said "404", ü.',
        "retryable": False,
        "attempts": 1,
    }


def test_failures_download_as_csv(client: FlaskClient, job_of_failures: str) -> None:
    response = client.get(f"/v1/jobs/{job_of_failures}/failures", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert (response.mimetype, len(rows)) == ("text/csv", 150)
    assert response.headers["Content-Disposition"] == f'attachment; filename="{job_of_failures}-failures.csv"'
    assert (rows[149]["url"], rows[149]["detail"]) == ("http://a.example/149.jpg", 'It said "404", ü.')


def test_failures_download_as_ndjson(client: FlaskClient, job_of_failures: str) -> None:
    response = client.get(f"/v1/jobs/{job_of_failures}/failures", headers={"Accept": "application/x-ndjson"})
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert (response.mimetype, len(rows), rows[0]["code"]) == ("application/x-ndjson", 150, "http_status")


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json, text/csv;q=0.5"])
def test_failures_are_json_unless_a_download_is_preferred(
    client: FlaskClient, job_of_failures: str, accept: str
) -> None:
    response = client.get(f"/v1/jobs/{job_of_failures}/failures", headers={"Accept": accept})
    assert response.mimetype == "application/json"


def test_a_retry_is_a_new_job_of_exactly_what_failed(
    client: FlaskClient, ledger: Ledger, job_of_failures: str
) -> None:
    failed = [failure.item for failure in ledger.all_failures(job_of_failures)]
    answer = client.post(f"/v1/jobs/{job_of_failures}/retry")
    assert answer.status_code == 202
    job = answer.json["id"]
    assert answer.headers["Location"] == f"/v1/jobs/{job}"
    again: list[Item] = []
    number = 1
    while chunk := ledger.claim(job, number):
        again += chunk.items
        number += 1
    assert again == failed


def test_a_job_without_failures_is_not_retried(client: FlaskClient) -> None:
    job = submit(client, b"".join(lines(1))).json["id"]
    assert_problem(client.post(f"/v1/jobs/{job}/retry"), 422, "invalid_request")


def test_a_spreadsheet_does_not_run_what_an_item_says(client: FlaskClient, ledger: Ledger) -> None:
    job = submit(client, b'{"url":"http://a.example/","id":"=1+1"}\n').json["id"]
    chunk = ledger.claim(job, 1)
    assert chunk is not None
    failed = ItemOutcome(chunk.items[0], "failed", FailureCode.EMPTY, "@detail")
    ledger.commit(ChunkReport(chunk, [failed]))
    table = client.get(f"/v1/jobs/{job}/failures", headers={"Accept": "text/csv"}).text
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["id"], row["detail"], row["retryable"]) == ("'=1+1", "'@detail", "false")


def test_a_chunk_of_heavy_payloads_is_full_before_its_count(client: FlaskClient, ledger: Ledger) -> None:
    lines = [
        json.dumps({"url": f"http://a.example/{n}", "payload": {"text": "x" * 900_000}}) for n in range(12)
    ]
    answer = client.post(
        "/v1/collections/shop/jobs", data="\n".join(lines), content_type="application/x-ndjson"
    )
    job = answer.get_json()["id"]
    chunks = []
    for number in (1, 2, 3):
        chunk = ledger.claim(job, number)
        assert chunk is not None
        chunks.append(len(chunk.items))
    assert chunks == [5, 5, 2]


def test_a_chunk_of_heavy_vectors_is_full_before_its_count(client: FlaskClient, ledger: Ledger) -> None:
    vector = base64.b64encode(bytes(4 * limits.MAX_VECTOR_LENGTH)).decode()
    lines = [json.dumps({"id": str(n), "vector": vector}) for n in range(14)]
    answer = client.post(
        "/v1/collections/shop/jobs", data="\n".join(lines), content_type="application/x-ndjson"
    )
    job = answer.get_json()["id"]
    chunks = [ledger.claim(job, number) for number in (1, 2)]
    assert [len(chunk.items) for chunk in chunks if chunk] == [12, 2]


def test_each_retry_of_an_upload_holds_its_picture_for_itself(
    client: FlaskClient, ledger: Ledger, uploads: Uploads
) -> None:
    answer = client.post("/v1/collections/shop/images", data={"image": (io.BytesIO(b"picture"), "a.jpg")})
    job = answer.get_json()["id"]
    end_all(ledger, job, FailureCode.ATTEMPTS_EXHAUSTED)
    again = [client.post(f"/v1/jobs/{job}/retry").get_json()["id"] for _ in range(2)]
    sha256 = hashlib.sha256(b"picture").hexdigest()
    for _ in again:
        assert uploads.read(sha256) == b"picture"
        uploads.release(sha256)
    assert uploads.read(sha256) == b"picture", "the failed item keeps its own"


def test_a_retry_of_an_upload_that_is_gone_says_so(
    client: FlaskClient, ledger: Ledger, redis_client: redis.Redis
) -> None:
    answer = client.post("/v1/collections/shop/images", data={"image": (io.BytesIO(b"picture"), "a.jpg")})
    job = answer.get_json()["id"]
    end_all(ledger, job, FailureCode.ATTEMPTS_EXHAUSTED)
    redis_client.delete(*redis_client.scan_iter("lookalike:upload:*"))
    again = ledger.claim(client.post(f"/v1/jobs/{job}/retry").get_json()["id"], 1)
    assert again is not None
    refused = again.items[0].refused
    assert refused is not None
    assert refused.code is FailureCode.EMPTY
    assert again.items[0].upload is None


def end_import(ledger: Ledger, *items: Item) -> str:
    """An import of these items, all of which failed."""
    job = ledger.open_job("shop", source=Source(dataset="marmal88/skin_cancer"))
    ledger.begin_import(job)
    errand = ledger.errands.take("imports")
    assert errand
    ledger.errands.accept(errand, "1", [Parcel(items, 7)])
    end_all(ledger, job, FailureCode.ATTEMPTS_EXHAUSTED)
    return job


def test_a_retry_of_a_picture_that_was_imported_says_to_import_it_again(
    client: FlaskClient, ledger: Ledger, uploads: Uploads
) -> None:
    picture = Item(id="a", upload=uploads.park_for_ingest(b"picture"))
    named = Item(id="b", url="http://a.example/b.jpg")
    job = client.post(f"/v1/jobs/{end_import(ledger, picture, named)}/retry").get_json()["id"]
    again = ledger.claim(job, 1)
    assert again
    assert again.items[0].refused
    assert again.items[0].refused.code is FailureCode.EMPTY
    assert "import it again" in again.items[0].refused.detail
    assert again.items[1] == named


def test_an_import_of_which_nothing_can_be_tried_again_is_not_retried(
    client: FlaskClient, ledger: Ledger, uploads: Uploads
) -> None:
    picture = Item(id="a", upload=uploads.park_for_ingest(b"picture"))
    unread = Item(id="row:7", refused=Refusal(code=FailureCode.PAYLOAD_INVALID, detail="It is no JSON."))
    job = end_import(ledger, picture, unread)
    assert_problem(client.post(f"/v1/jobs/{job}/retry"), 422, "invalid_request", "import it again")
    assert len(ledger.jobs(10)[0]) == 1


def end_all(ledger: Ledger, job: str, code: FailureCode) -> None:
    chunk = ledger.claim(job, 1)
    assert chunk is not None
    outcomes = [ItemOutcome(item, "failed", code, "why", True) for item in chunk.items]
    ledger.commit(ChunkReport(chunk, outcomes))


@pytest.fixture
def uploads(redis_client: redis.Redis, settings: Settings) -> Uploads:
    return Uploads(redis_client, settings)


# Copies


def end_copy(ledger: Ledger) -> str:
    """A job that copied one image from `shop@1` to `shop@2`, which failed."""
    job = ledger.open_job("shop@2", source=Source(collection="shop@1"))
    ledger.begin_import(job)
    errand = ledger.errands.take("imports")
    assert errand
    ledger.errands.accept(errand, "a", [Parcel([Item(id="a", url="http://a.example/a.jpg")])])
    ledger.errands.seal(errand)
    ledger.errands.let_go(errand)
    end_all(ledger, job, FailureCode.CONNECT_FAILED)
    return job


def test_a_copy_is_retried_by_copying_what_is_missing_now(
    client: FlaskClient, workers: Workers, ledger: Ledger
) -> None:
    job = end_copy(ledger)
    workers.answer(ROUTE_COPY, {"ok": ["shop@1", "shop@2"]})
    answer = client.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 202, answer.text
    assert workers.calls == [("route_copy", "shop", 2, 1)]
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    assert (answer.json["collection"], answer.json["state"]) == ("shop@2", "accepting")
    errand = ledger.errands.take("imports")
    assert errand
    assert (errand.job, errand.source) == (answer.json["id"], Source(collection="shop@1"))


def test_a_copy_whose_version_is_gone_is_not_retried(
    client: FlaskClient, workers: Workers, ledger: Ledger
) -> None:
    job = end_copy(ledger)
    gone = {"code": "collection_not_found", "detail": "There is no collection `shop@1`."}
    workers.answer(ROUTE_COPY, {"error": gone})
    assert_problem(client.post(f"/v1/jobs/{job}/retry"), 404, "collection_not_found", "shop@1")
    assert ledger.errands.take("imports") is None

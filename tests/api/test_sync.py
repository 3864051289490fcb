"""api/sync.py on lists of items: what the collection has beside them is to be removed."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import ChunkReport, Item, ItemOutcome, Sync
from shared.ledger import Ledger
from shared.parcels import id_hashes
from tests.api.conftest import assert_problem

JOBS = "/v1/collections/shop/jobs"
LINES = b"".join(b'{"url":"http://a.example/%d.jpg"}\n' % n for n in range(130))


def submit(
    client: FlaskClient, arguments: str = "?sync=true", body: bytes = LINES, **options: Any
) -> TestResponse:
    return client.post(f"{JOBS}{arguments}", data=body, content_type="application/x-ndjson", **options)


def end_all(ledger: Ledger, job: str) -> None:
    number = 1
    while chunk := ledger.claim(job, number):
        ledger.commit(ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items]))
        number += 1


def test_a_job_runs_until_a_worker_has_compared(client: FlaskClient, ledger: Ledger) -> None:
    job = submit(client, "?sync=true&sync_share=0.1").json
    assert (job["state"], job["removed"]) == ("queued", 0)
    end_all(ledger, job["id"])
    assert client.get(f"/v1/jobs/{job['id']}").json["state"] == "running"
    errand = ledger.errands.take("syncs")
    assert errand
    assert errand.sync == Sync(share=0.1)
    urls = [f"http://a.example/{n}.jpg" for n in range(130)]
    assert ledger.errands.ids(errand) == id_hashes([Item(id=url) for url in urls])
    ledger.errands.compared(errand, 3, 0.25)
    ledger.errands.synced(errand, refused="too many")
    ended = client.get(f"/v1/jobs/{job['id']}").json
    assert (ended["state"], ended["removed"]) == ("done", 0)
    assert ended["sync"] == {"absent": 3, "share": 0.25, "refused": "too many"}


def test_a_job_that_asks_for_none_is_done_with_its_items(client: FlaskClient, ledger: Ledger) -> None:
    job = submit(client, "").json
    end_all(ledger, job["id"])
    ended = client.get(f"/v1/jobs/{job['id']}").json
    assert ended["state"] == "done"
    assert not {"sync", "removed"} & ended.keys()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (
            "application/x-ndjson",
            b'{"url":"http://a.example/1","id":7}\n{"url":"http://a.example/2","id":"x"}\n',
        ),
        ("application/json", b'{"items":[{"url":"ftp://a.example/","id":""},{"url":"/2.jpg","id":"x"}]}'),
        ("application/x-ndjson", b'{"url":""}\n{"url":"http://a.example/2"}\n'),
        ("text/csv", b"id,url\n%b,http://a.example/1\nx,\n" % (b"7" * 600)),
        ("text/csv", b"url\n#N/A\nhttp://a.example/1\n"),
        ("text/csv", b"id,url\n1,%b\nx,http://a.example/1\n" % b"|".join([b"http://a.example/1"] * 1001)),
    ],
)
def test_items_whose_ids_cannot_be_read_are_counted(
    client: FlaskClient, ledger: Ledger, kind: str, body: bytes
) -> None:
    given = {"sync": "true", "separator": "|"}
    answer = client.post(JOBS, data=body, content_type=kind, query_string=given)
    assert answer.status_code == 202, answer.text
    end_all(ledger, answer.json["id"])
    errand = ledger.errands.take("syncs")
    assert errand
    assert (ledger.snapshot(errand.job).total, errand.unnamed) == (2, 1)


def test_a_body_that_breaks_removes_nothing(client: FlaskClient, ledger: Ledger) -> None:
    problem = assert_problem(submit(client, body=LINES + b"{"), 400, "invalid_body")
    assert ledger.snapshot(problem["job"]).state == "cancelled"
    assert ledger.errands.take("syncs") is None


@pytest.mark.parametrize(
    "arguments",
    [
        "?sync=perhaps",
        "?sync=true&sync_share=1.5",
        "?sync=true&sync_share=nan",
        "?force=true",
        "?sync_share=0.5",
    ],
)
def test_what_has_no_meaning_is_refused(client: FlaskClient, ledger: Ledger, arguments: str) -> None:
    assert_problem(submit(client, arguments), 422, "invalid_request", "sync")
    assert ledger.jobs(1)[0] == []


def test_it_is_part_of_what_makes_two_requests_the_same(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = submit(client, headers=key), submit(client, headers=key)
    assert first.json["id"] == again.json["id"]
    assert_problem(submit(client, "", headers=key), 422, "idempotency_conflict")

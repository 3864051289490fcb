"""From outside, through HTTP: lists of URLs go in, every item ends, and nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.image_server import ImageServer, jpeg
from tests.system.conftest import IMAGES_HOST
from tests.system.stack import Stack


def good(images: ImageServer, count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "url": images.url(f"/jpeg/{n}.jpg"),
            "id": f"p{n}",
            "payload": {"n": n, "kind": "odd" if n % 2 else "even"},
        }
        for n in range(start, start + count)
    ]


def test_a_list_of_urls_is_indexed_and_the_same_again_is_unchanged(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    first = stack.ended(stack.submit(collection, good(images, 100)))
    assert (first["state"], first["indexed"], first["failed"]) == ("done", 100, 0)
    assert stack.count(collection) == 100
    again = stack.ended(stack.submit(collection, good(images, 100)))
    assert (again["indexed"], again["unchanged"]) == (0, 100)
    assert stack.count(collection) == 100


def test_every_bad_url_has_its_code_and_all_others_are_indexed(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    bad = {
        "/missing": "http_status",
        "/dribble": "timeout",
        "/redirect-loop": "too_many_redirects",
        "/huge": "too_large",
        "/html.jpg": "not_an_image",
        "/truncated.jpg": "truncated",
        "/bomb.png": "too_many_pixels",
        "/gzip": "content_encoding",
        "/empty": "empty",
    }
    items = [{"url": images.url(path), "id": path} for path in bad]
    items += [
        {"url": "http://127.0.0.1/x.jpg", "id": "loopback"},
        {"url": "ftp://shop.example/x.jpg", "id": "ftp"},
        {"url": "http://no-such-name.invalid/x.jpg", "id": "no name"},
        {"url": images.url("/jpeg/1.jpg"), "id": "payload", "payload": {"_x": 1}},
    ]
    expected = bad | {
        "loopback": "address_refused",
        "ftp": "bad_url",
        "no name": "dns_failed",
        "payload": "payload_invalid",
    }
    job = stack.submit(collection, items + good(images, 20))
    end = stack.ended(job)
    rows = stack.failures(job)
    assert {id: row["code"] for id, row in rows.items()} == expected
    assert all(row["detail"] for row in rows.values())
    assert rows["/dribble"]["attempts"] == 2  # it might have passed
    assert rows["/missing"]["attempts"] == 1
    assert (end["indexed"], end["failed"]) == (20, len(expected))
    assert sum(end["failures"].values()) == end["failed"]


def test_a_fault_that_passes_fails_nobody(stack: Stack, images: ImageServer, collection: str) -> None:
    with ImageServer(host=IMAGES_HOST) as server:
        flaky = [{"url": server.url(f"/flaky?fails=3&n={n}")} for n in range(3)]
        end = stack.ended(stack.submit(collection, flaky + good(images, 5)))
        assert server.requests["/flaky"] == 6
    assert (end["indexed"], end["unchanged"], end["failed"]) == (8, 0, 0)


def test_failures_come_as_a_download_too(stack: Stack, images: ImageServer, collection: str) -> None:
    job = stack.submit(collection, [{"url": images.url("/missing"), "id": "a,b"}])
    stack.ended(job)
    table = stack.call("GET", f"/v1/jobs/{job}/failures", headers={"Accept": "text/csv"})
    assert table.headers["Content-Type"].startswith("text/csv")
    assert table.text.splitlines()[0].split(",") == ["id", "url", "code", "detail", "retryable", "attempts"]
    assert '"a,b"' in table.text


def test_a_feed_with_several_urls_a_row_becomes_one_item_each(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    rows = ["Uniq Id,Image,Price,Name"]
    rows += [
        f'r{n},{images.url(f"/jpeg/{n}.jpg")}|{images.url(f"/jpeg/{n + 50}.jpg")},{n}.5,"Radio, {n}"'
        for n in range(4)
    ]
    answer = stack.ok(
        "POST",
        f"/v1/collections/{collection}/jobs",
        params={"url_column": "Image", "id_column": "Uniq Id", "separator": "|"},
        data="\n".join(rows).encode(),
        headers={"Content-Type": "text/csv"},
    )
    assert stack.ended(answer["id"])["indexed"] == 8
    found = stack.ok("GET", f"/v1/collections/{collection}/images", params={"limit": 100})["images"]
    assert sorted(image["payload"]["group"] for image in found) == [
        f"r{n}" for n in range(4) for _ in range(2)
    ]
    assert {(image["payload"]["Price"], image["payload"]["Name"]) for image in found} == {
        (n + 0.5, f"Radio, {n}") for n in range(4)
    }


def test_uploads_are_indexed_under_their_hash(stack: Stack, collection: str) -> None:
    files = [("image", (f"{n}.jpg", jpeg(n))) for n in range(5)]
    job = stack.ok("POST", f"/v1/collections/{collection}/images", files=files)
    assert stack.ended(job["id"])["indexed"] == 5
    again = stack.ok("POST", f"/v1/collections/{collection}/images", files=files)
    assert stack.ended(again["id"])["unchanged"] == 5
    found = stack.ok("GET", f"/v1/collections/{collection}/images")["images"]
    assert all(image["id"].startswith("sha256:") and image["url"] is None for image in found)


def test_a_cancelled_job_starts_nothing_more(stack: Stack, images: ImageServer, collection: str) -> None:
    slow = [{"url": images.url(f"/slow?seconds=1&n={n}")} for n in range(300)]
    job = stack.submit(collection, slow)
    stack.until(lambda: stack.job(job)["state"] == "running", "the job never ran")
    assert stack.call("DELETE", f"/v1/jobs/{job}").status_code == 202
    assert stack.job(job)["state"] == "cancelled"
    stack.until(lambda: stack.job(job)["pending"] == 0, "what was in hand never ended")
    end = stack.job(job)
    assert end["failures"]["cancelled"] > 0
    assert end["indexed"] + end["failed"] == 300


def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    job = stack.submit(collection, good(images, 160, start=1000))
    _until_indexed(stack, job, 20)
    os.kill(stack.processes("-Q ingest")[0], signal.SIGKILL)
    end = stack.ended(job)
    assert (end["state"], end["indexed"], end["failed"], end["unchanged"]) == ("done", 160, 0, 0)
    assert stack.count(collection) == 160


def test_a_collection_that_is_deleted_takes_its_jobs_along(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    job = stack.submit(collection, good(images, 300, start=2000))
    _until_indexed(stack, job, 1)
    assert stack.call("DELETE", f"/v1/collections/{collection}").status_code == 204
    assert stack.job(job)["state"] == "cancelled"
    stack.until(lambda: stack.job(job)["pending"] == 0, "what was in hand never ended")


def _until_indexed(stack: Stack, job: str, count: int) -> None:
    stack.until(lambda: stack.job(job)["indexed"] >= count, "the job stood still")


def test_only_what_failed_is_tried_again(stack: Stack, images: ImageServer, collection: str) -> None:
    bad = [{"url": images.url("/missing"), "id": "bad"}]
    job = stack.submit(collection, good(images, 5) + bad)
    stack.ended(job)
    again = stack.ok("POST", f"/v1/jobs/{job}/retry")["id"]
    end = stack.ended(again)
    assert (end["total"], end["failed"], end["failures"]) == (1, 1, {"http_status": 1})
    assert list(stack.failures(again)) == ["bad"]

"""workers/ingest.py with the real fetcher, decoder, model, engine and ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.contract import Chunk, ChunkReport, Item, Refusal, point_id
from shared.errors import FailureCode, RequestError
from tests.image_server import ImageServer, jpeg
from workers.hosts import NoTurn
from workers.ingest import exhausted, ingest
from workers.lease import LeaseState
from workers.parts import Parts


def chunk_of(*items: Item, job: str = "job_a", number: int = 1, attempt: int = 1) -> Chunk:
    return Chunk(job, number, "shop", "token", attempt, list(items))


def item(server: ImageServer, path: str, id: str | None = None, **payload: Any) -> Item:
    url = server.url(path)
    return Item(id=id or url, url=url, payload=payload)


def run(chunk: Chunk, parts: Parts, lease: LeaseState = "held") -> ChunkReport:
    report = ingest(chunk, parts, lease=lambda: lease)
    assert report is not None
    return report


def statuses(report: ChunkReport) -> list[str]:
    return [outcome.code or outcome.status for outcome in report.outcomes]


def system(parts: Parts, id: str) -> dict[str, Any]:
    return dict(parts.index.retrieve("shop", [id])[id].payload["_image"])


def test_an_image_stands_with_its_payload_and_what_the_system_adds(parts: Parts, images: ImageServer) -> None:
    report = run(chunk_of(item(images, "/jpeg/1.jpg", id="one", dx="nv", age=40)), parts)
    assert statuses(report) == ["indexed"]
    point = parts.index.retrieve("shop", ["one"])["one"]
    assert (point.payload["dx"], point.payload["age"]) == ("nv", 40)
    added = point.payload["_image"]
    assert set(added) == {
        "id", "url", "sha256", "width", "height", "format", "bytes", "model", "indexed_at", "job",
    }  # fmt: skip
    assert (added["id"], added["url"], added["width"], added["height"]) == (
        "one",
        images.url("/jpeg/1.jpg"),
        600,
        450,
    )
    assert (added["format"], added["model"]) == ("jpeg", parts.models.default.embedder.card.fingerprint)


def test_the_same_again_is_unchanged_without_a_forward_pass(parts: Parts, images: ImageServer) -> None:
    items = [item(images, f"/jpeg/{n}.jpg") for n in range(5)]
    run(chunk_of(*items), parts)
    embedded = parts.models.default.embedder.pictures  # type: ignore[attr-defined]
    assert embedded == 5
    assert statuses(run(chunk_of(*items, job="job_b"), parts)) == ["unchanged"] * 5
    assert parts.models.default.embedder.pictures == embedded  # type: ignore[attr-defined]
    assert parts.index.count("shop") == 5


def test_an_unchanged_image_gets_its_new_payload_and_url(parts: Parts, images: ImageServer) -> None:
    run(chunk_of(item(images, "/jpeg/1.jpg", id="one", price=1, old=True)), parts)
    again = Item(id="one", url=images.url("/jpeg/1.jpg?v=2"), payload={"price": 2})
    assert statuses(run(chunk_of(again, job="job_b"), parts)) == ["unchanged"]
    payload = parts.index.retrieve("shop", ["one"])["one"].payload
    assert payload["price"] == 2
    assert "old" not in payload
    assert payload["_image"]["url"] == images.url("/jpeg/1.jpg?v=2")


def test_new_bytes_under_an_id_replace_the_image(parts: Parts, images: ImageServer) -> None:
    run(chunk_of(Item(id="one", url=images.url("/jpeg/1.jpg"))), parts)
    before = system(parts, "one")["sha256"]
    assert statuses(run(chunk_of(Item(id="one", url=images.url("/jpeg/2.jpg"))), parts)) == ["indexed"]
    assert system(parts, "one")["sha256"] != before
    assert parts.index.count("shop") == 1


def test_a_second_run_of_a_chunk_that_died_before_its_report_counts_its_own_work(
    parts: Parts, images: ImageServer
) -> None:
    chunk = chunk_of(*[item(images, f"/jpeg/{n}.jpg") for n in range(3)])
    run(chunk, parts)
    embedded = parts.models.default.embedder.pictures  # type: ignore[attr-defined]
    assert statuses(run(replace(chunk, attempt=2), parts)) == ["indexed"] * 3
    assert parts.models.default.embedder.pictures == embedded  # type: ignore[attr-defined]


def test_each_bad_picture_has_its_code_and_the_good_ones_are_indexed(
    parts: Parts, images: ImageServer
) -> None:
    paths = {
        "/missing": "http_status",
        "/redirect-loop": "too_many_redirects",
        "/huge": "too_large",
        "/html.jpg": "not_an_image",
        "/truncated.jpg": "truncated",
        "/bomb.png": "too_many_pixels",
        "/dribble": "timeout",
        "/empty": "empty",
        "/jpeg/1.jpg": "indexed",
        "/png/2.png": "indexed",
    }
    last_fetch = parts.settings.fetch_attempts - 1
    report = run(replace(chunk_of(*[item(images, path) for path in paths]), fetches=last_fetch), parts)
    assert dict(zip(paths, statuses(report), strict=True)) == paths
    assert all(outcome.detail for outcome in report.outcomes if outcome.status == "failed")
    assert parts.index.count("shop") == 2


def test_a_refused_item_is_a_failure_row_and_is_never_fetched(parts: Parts, images: ImageServer) -> None:
    refused = Item(
        id="x",
        url=images.url("/jpeg/1.jpg"),
        refused=Refusal(code=FailureCode.PAYLOAD_INVALID, detail="`_x` begins with `_`."),
    )
    assert statuses(run(chunk_of(refused), parts)) == ["payload_invalid"]
    assert images.requests["/jpeg/1.jpg"] == 0


def test_the_same_picture_twice_under_one_id_counts_once(parts: Parts, images: ImageServer) -> None:
    twice = [item(images, "/jpeg/1.jpg", id="one", n=1), item(images, "/jpeg/1.jpg", id="one", n=2)]
    assert statuses(run(chunk_of(*twice), parts)) == ["indexed", "unchanged"]
    assert parts.index.retrieve("shop", ["one"])["one"].payload["n"] == 2
    assert parts.index.count("shop") == 1


def test_of_several_pictures_under_one_id_the_last_stands(parts: Parts, images: ImageServer) -> None:
    run(chunk_of(item(images, "/jpeg/1.jpg", id="one"), item(images, "/jpeg/2.jpg", id="one")), parts)
    assert system(parts, "one")["url"] == images.url("/jpeg/2.jpg")


def test_an_upload_is_read_under_its_hash(parts: Parts) -> None:
    sha256 = parts.uploads.park_for_ingest(jpeg(7))
    report = run(chunk_of(Item(id=f"sha256:{sha256}", upload=sha256)), parts)
    assert statuses(report) == ["indexed"]
    assert system(parts, f"sha256:{sha256}")["url"] is None


def test_an_upload_that_is_gone_says_so(parts: Parts) -> None:
    report = run(chunk_of(Item(id="x", upload="0" * 64)), parts)
    assert statuses(report) == ["empty"]
    assert "upload the file again" in (report.outcomes[0].detail or "")


def test_nothing_is_written_after_a_cancel(parts: Parts, images: ImageServer) -> None:
    report = run(chunk_of(item(images, "/jpeg/1.jpg")), parts, lease="cancelled")
    assert statuses(report) == ["cancelled"]
    assert parts.index.count("shop") == 0


def test_nothing_is_written_or_reported_once_the_lease_is_lost(parts: Parts, images: ImageServer) -> None:
    assert ingest(chunk_of(item(images, "/jpeg/1.jpg")), parts, lease=lambda: "lost") is None
    assert parts.index.count("shop") == 0


def test_a_collection_under_another_model_is_refused_whole(parts: Parts, images: ImageServer) -> None:
    other = parts.models.default.embedder.card.model_copy(update={"revision": "another"})
    parts.index.create("shop", other)
    with pytest.raises(RequestError, match="needs the model"):
        ingest(chunk_of(item(images, "/jpeg/1.jpg")), parts, lease=lambda: "held")
    assert parts.index.count("shop") == 0


def test_a_chunk_that_broke_every_run_ends_with_the_last_error(parts: Parts) -> None:
    report = exhausted(chunk_of(Item(id="a", url="http://x.example/"), attempt=6), "RuntimeError: boom")
    assert statuses(report) == ["attempts_exhausted"]
    assert "boom" in (report.outcomes[0].detail or "")


def test_point_ids_are_uuid5_of_the_item_id() -> None:
    assert point_id("http://shop.example/1.jpg") == "0c474016-0b5a-5e3c-a74a-5cf4e1b17edf"


def test_a_second_run_counts_a_repeated_id_as_the_first_did(parts: Parts, images: ImageServer) -> None:
    chunk = chunk_of(item(images, "/jpeg/1.jpg", id="one"), item(images, "/jpeg/1.jpg", id="one"))
    first = statuses(run(chunk, parts))
    assert first == statuses(run(replace(chunk, attempt=2), parts)) == ["indexed", "unchanged"]


def test_a_fault_that_may_pass_is_put_off_until_its_fetches_are_used_up(
    parts: Parts, images: ImageServer
) -> None:
    first = run(chunk_of(item(images, "/jpeg/1.jpg"), item(images, "/missing")), parts)
    assert (statuses(first), first.put_off) == (["indexed", "http_status"], [])
    (later,) = run(chunk_of(item(images, "/error")), parts).put_off
    assert ([each.url for each in later.items], later.fetches) == ([images.url("/error")], 1)
    assert later.pause >= 30  # the server's Retry-After


def test_the_last_fetch_of_a_fault_that_may_pass_is_its_failure(parts: Parts, images: ImageServer) -> None:
    most = parts.settings.fetch_attempts
    last = run(replace(chunk_of(item(images, "/status?code=500")), fetches=most - 1), parts)
    assert (statuses(last), last.put_off) == (["http_status"], [])
    assert (last.failures()[0].attempts, last.failures()[0].retryable) == (most, True)


def test_the_pause_triples_with_each_fetch(parts: Parts, images: ImageServer) -> None:
    busy = item(images, "/status?code=500")
    later = [run(replace(chunk_of(busy), fetches=fetches), parts).put_off[0] for fetches in (0, 1)]
    first = parts.settings.fetch_retry_seconds
    assert [each.pause for each in later] == [first, 3 * first]


def test_an_item_that_had_no_turn_at_its_host_loses_no_fetch(
    parts: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_turn(url: str) -> None:
        raise NoTurn(FailureCode.TIMEOUT, f"`{url}`: its host is busy.", again_after=0)

    monkeypatch.setattr(parts.fetcher, "fetch", no_turn)
    most = parts.settings.fetch_attempts
    (later,) = run(replace(chunk_of(item(images, "/jpeg/1.jpg")), fetches=most - 1), parts).put_off
    assert later.fetches == most - 1


def test_what_a_piece_finds_of_its_chunks_own_work_counts_as_indexed(
    parts: Parts, images: ImageServer
) -> None:
    wanted = [item(images, f"/jpeg/{n}.jpg") for n in range(2)]
    run(chunk_of(*wanted, number=1), parts)  # and its worker died before the commit
    piece = replace(chunk_of(wanted[1], number=9), origin=1)
    assert statuses(run(piece, parts)) == ["indexed"]


def test_items_of_one_id_wait_together_so_that_the_last_one_stands(parts: Parts, images: ImageServer) -> None:
    twins = [item(images, "/status?code=500", id="x"), item(images, "/jpeg/1.jpg", id="x")]
    report = run(chunk_of(*twins, item(images, "/jpeg/2.jpg", id="y")), parts)
    assert [outcome.item.id for outcome in report.outcomes] == ["y"]
    assert [each.url for each in report.put_off[0].items] == [twin.url for twin in twins]
    assert parts.index.retrieve("shop", ["x"]) == {}

"""workers/ingest.py with the real fetcher, decoder, model, engine and ledger."""

from __future__ import annotations

import hashlib
import io
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.contract import Chunk, ChunkReport, Item, Refusal, point_id
from shared.errors import FailureCode, FilesUnavailable, RequestError
from shared.parcels import id_hash
from tests.image_server import ImageServer, jpeg
from workers.fetch import Known, place_of
from workers.hosts import NoTurn
from workers.ingest import exhausted, ingest
from workers.lease import LeaseState
from workers.parts import Parts
from workers.removal import forget


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


def test_a_chunk_waits_while_an_image_of_it_is_being_removed(parts: Parts, images: ImageServer) -> None:
    one = item(images, "/jpeg/1.jpg", id="one")
    run(chunk_of(one), parts)
    parts.redis.set("lookalike:removing:shop", id_hash("one"), ex=60)

    def remove() -> None:
        parts.index.delete("shop@1", ["one"])
        parts.redis.delete("lookalike:removing:shop")

    removing = threading.Timer(0.05, remove)
    removing.start()
    assert statuses(run(chunk_of(one, job="job_b"), parts)) == ["indexed"]
    removing.join()


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
    def no_turn(url: str, known: Known | None) -> None:
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


# What is known already


@pytest.fixture
def shifting() -> Iterator[tuple[ImageServer, dict[str, bytes]]]:
    """A server whose pictures a test can change under their URL."""
    pictures = {"/a.jpg": jpeg(1)}
    with ImageServer(pictures) as server:
        yield server, pictures


@pytest.mark.parametrize("by", ["hash", "date"])
def test_what_the_server_says_is_unchanged_is_not_sent_again(
    parts: Parts, images: ImageServer, by: str
) -> None:
    path = f"/tagged?of=/jpeg/1.jpg&by={by}"
    run(chunk_of(item(images, path, id="one", price=1)), parts)
    named = "etag" if by == "hash" else "last_modified"
    before = system(parts, "one")
    assert before[named]
    assert statuses(run(chunk_of(item(images, path, id="one", price=2), job="job_b"), parts)) == ["unchanged"]
    assert images.not_modified["/jpeg/1.jpg"] == 1
    assert system(parts, "one").items() > before.items()  # it says when its payload was updated
    assert parts.index.retrieve("shop", ["one"])["one"].payload["price"] == 2


def test_what_redirects_led_to_is_asked_there(parts: Parts, images: ImageServer) -> None:
    moved = item(images, "/redirect?to=/tagged", id="one")
    run(chunk_of(moved), parts)
    assert system(parts, "one")["url"] == moved.url
    assert system(parts, "one")["fetched_from"] == place_of(images.url("/tagged"))
    assert statuses(run(chunk_of(moved, job="job_b"), parts)) == ["unchanged"]
    assert images.not_modified["/jpeg/1.jpg"] == 1


def test_a_picture_that_changed_under_its_url_is_indexed_anew(
    parts: Parts, shifting: tuple[ImageServer, dict[str, bytes]]
) -> None:
    server, pictures = shifting
    one = item(server, "/tagged?of=/a.jpg", id="one")
    run(chunk_of(one), parts)
    before = system(parts, "one")
    pictures["/a.jpg"] = jpeg(2)
    assert statuses(run(chunk_of(one, job="job_b"), parts)) == ["indexed"]
    after = system(parts, "one")
    assert (before["etag"], before["sha256"]) != (after["etag"], after["sha256"])
    assert server.not_modified == {}


def test_a_new_url_is_not_asked_by_what_stands_of_the_old_one(parts: Parts, images: ImageServer) -> None:
    run(chunk_of(item(images, "/tagged?of=/jpeg/1.jpg", id="one")), parts)
    plain = item(images, "/jpeg/1.jpg", id="one")
    assert statuses(run(chunk_of(plain, job="job_b"), parts)) == ["unchanged"]
    assert system(parts, "one").keys().isdisjoint({"etag", "last_modified", "fetched_from"})
    assert images.not_modified == {}


def test_a_second_run_knows_its_own_work_by_what_the_server_says(parts: Parts, images: ImageServer) -> None:
    chunk = chunk_of(item(images, "/tagged", id="one"))
    run(chunk, parts)
    assert statuses(run(replace(chunk, attempt=2), parts)) == ["indexed"]
    assert images.not_modified["/jpeg/1.jpg"] == 1


def test_a_server_that_says_unchanged_unasked_is_a_failure_row(parts: Parts, images: ImageServer) -> None:
    assert statuses(run(chunk_of(item(images, "/status?code=304")), parts)) == ["http_status"]


# Thumbnails


@pytest.fixture
def keeping(parts: Parts) -> Parts:
    """A worker that keeps thumbnails."""
    return replace(parts, settings=parts.settings.model_copy(update={"thumbnails": True}))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kept(parts: Parts, data: bytes, collection: str = "shop") -> bytes | None:
    assert parts.thumbnails is not None
    return parts.thumbnails.read(collection, sha256(data))


def test_a_thumbnail_is_kept_of_each_image_and_the_image_says_so(keeping: Parts, images: ImageServer) -> None:
    chunk = chunk_of(item(images, "/jpeg/1.jpg", id="one"), item(images, "/png/2.png", id="two"))
    assert statuses(run(chunk, keeping)) == ["indexed"] * 2
    assert system(keeping, "one")["thumbnail"] is True
    thumbnail = kept(keeping, jpeg(1))
    assert thumbnail is not None
    with Image.open(io.BytesIO(thumbnail)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (256, 192))


def test_none_is_kept_where_none_is_wanted(parts: Parts, images: ImageServer) -> None:
    run(chunk_of(item(images, "/jpeg/1.jpg", id="one")), parts)
    assert kept(parts, jpeg(1)) is None
    assert "thumbnail" not in system(parts, "one")


def test_the_same_again_is_unchanged_with_thumbnails_too(keeping: Parts, images: ImageServer) -> None:
    for path in ("/jpeg/1.jpg", "/tagged"):
        chunk = chunk_of(item(images, path, id=path))
        run(chunk, keeping)
        before = system(keeping, path)
        assert statuses(run(replace(chunk, job="job_b"), keeping)) == ["unchanged"]
        assert system(keeping, path) == before
    assert images.not_modified["/jpeg/1.jpg"] == 1


def test_an_image_from_before_there_were_thumbnails_gets_its_own_and_stays_unchanged(
    keeping: Parts, parts: Parts, images: ImageServer
) -> None:
    chunk = chunk_of(item(images, "/tagged", id="one"))
    run(chunk, parts)
    embedded = parts.models.default.embedder.pictures  # type: ignore[attr-defined]
    assert statuses(run(replace(chunk, job="job_b"), keeping)) == ["unchanged"]
    assert system(keeping, "one")["thumbnail"] is True
    assert kept(keeping, jpeg(1))
    assert parts.models.default.embedder.pictures == embedded  # type: ignore[attr-defined]


def test_the_thumbnail_goes_with_the_last_image_of_its_bytes(keeping: Parts, images: ImageServer) -> None:
    twins = [item(images, "/jpeg/1.jpg", id=id) for id in ("one", "two")]
    run(chunk_of(*twins), keeping)
    run(chunk_of(item(images, "/jpeg/2.jpg", id="one"), job="job_b"), keeping)
    assert kept(keeping, jpeg(1))
    run(chunk_of(item(images, "/jpeg/2.jpg", id="two"), job="job_c"), keeping)
    assert kept(keeping, jpeg(1)) is None
    assert kept(keeping, jpeg(2))


def test_a_thumbnail_that_is_forgotten_before_its_image_stands_is_kept_again(
    keeping: Parts, images: ImageServer
) -> None:
    looks = 0

    def lease() -> LeaseState:
        nonlocal looks
        looks += 1
        if looks == 2:  # the last image that had these bytes has just gone
            assert kept(keeping, jpeg(1))
            forget(keeping.index, keeping.thumbnails, "shop@1", {sha256(jpeg(1))})
        return "held"

    assert ingest(chunk_of(item(images, "/jpeg/1.jpg", id="one")), keeping, lease)
    assert kept(keeping, jpeg(1))


def test_nothing_is_kept_of_a_cancelled_chunk(keeping: Parts, images: ImageServer, tmp_path: Path) -> None:
    run(chunk_of(item(images, "/jpeg/1.jpg")), keeping, lease="cancelled")
    assert not (tmp_path / "files" / "thumbnails").exists()


def test_where_thumbnails_cannot_be_kept_nothing_is_indexed_and_the_chunk_is_tried_again(
    keeping: Parts, images: ImageServer, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thumbnails").write_bytes(b"in the way")
    with pytest.raises(FilesUnavailable):
        run(chunk_of(item(images, "/jpeg/1.jpg", id="one")), keeping)
    assert keeping.index.retrieve("shop", ["one"]) == {}


# Images from elsewhere


def exported(parts: Parts, id: str) -> Item:
    """An image that stands, as an export brings it back."""
    point = parts.index.retrieve("shop", [id], vectors=True)[id]
    assert point.vector is not None
    payload = {name: value for name, value in point.payload.items() if name != "_image"}
    return Item(
        id=id,
        url=point.payload["_image"]["url"],
        payload=payload,
        vector=b64encode(point.vector.tobytes()).decode(),
        image=point.payload["_image"],
    )


def test_an_image_with_its_vector_stands_again_bit_for_bit_and_nothing_is_fetched(
    parts: Parts, images: ImageServer
) -> None:
    run(chunk_of(item(images, "/jpeg/1.jpg", id="one", dx="nv")), parts)
    one = exported(parts, "one")
    before = parts.index.retrieve("shop", ["one"], vectors=True)["one"]
    parts.index.drop("shop")
    assert statuses(run(chunk_of(one, job="job_b"), parts)) == ["indexed"]
    after = parts.index.retrieve("shop", ["one"], vectors=True)["one"]
    assert after.vector is not None
    np.testing.assert_array_equal(after.vector, before.vector)
    changed = {"indexed_at", "job"}
    fields = lambda point: {k: v for k, v in point.payload["_image"].items() if k not in changed}  # noqa: E731
    assert (fields(after), after.payload["dx"]) == (fields(before), "nv")
    assert images.requests["/jpeg/1.jpg"] == 1
    assert parts.models.default.embedder.pictures == 1  # type: ignore[attr-defined]


def test_an_image_with_its_vector_that_stands_already_is_unchanged(parts: Parts, images: ImageServer) -> None:
    run(chunk_of(item(images, "/tagged", id="one", price=1)), parts)
    before = system(parts, "one")
    again = exported(parts, "one").model_copy(update={"payload": {"price": 2}})
    assert statuses(run(chunk_of(again, job="job_b"), parts)) == ["unchanged"]
    assert system(parts, "one").items() > before.items()
    assert parts.index.retrieve("shop", ["one"])["one"].payload["price"] == 2


def test_a_second_run_of_imported_vectors_counts_its_own_work(parts: Parts, images: ImageServer) -> None:
    bare = Item(id="one", vector=floats(parts, 1.0), fingerprint=parts.models.default.card.fingerprint)
    chunk = chunk_of(bare)
    assert statuses(run(chunk, parts)) == ["indexed"]
    assert statuses(run(replace(chunk, attempt=2), parts)) == ["indexed"]
    assert statuses(run(replace(chunk, job="job_b"), parts)) == ["unchanged"]


def floats(parts: Parts, *values: float) -> str:
    vector = np.zeros(parts.models.default.card.dimension, "<f4")
    vector[: len(values)] = values
    return b64encode(vector.tobytes()).decode()


def test_a_vector_of_another_length_than_one_is_brought_to_it(parts: Parts) -> None:
    ours = parts.models.default.card.fingerprint
    run(chunk_of(Item(id="one", vector=floats(parts, 3.0, 4.0), fingerprint=ours)), parts)
    vector = parts.index.retrieve("shop", ["one"], vectors=True)["one"].vector
    assert vector is not None
    assert vector[:3].tolist() == pytest.approx([0.6, 0.8, 0.0])


def test_a_vector_that_cannot_be_used_is_a_failure_row_that_says_why(parts: Parts) -> None:
    ours = parts.models.default.card.fingerprint
    bad = {
        "made by `clip@1/x`": Item(id="a", vector=floats(parts, 1.0), fingerprint="clip@1/x"),
        "does not say which model": Item(id="b", vector=floats(parts, 1.0)),
        "finite": Item(id="c", vector=floats(parts, float("nan")), fingerprint=ours),
        "not all zero": Item(id="d", vector=floats(parts), fingerprint=ours),
        "it has 2": Item(id="e", vector=b64encode(bytes(8)).decode(), fingerprint=ours),
        "base64": Item(id="f", vector="%%%", fingerprint=ours),
        "`image.width`": Item(id="g", vector=floats(parts, 1.0), fingerprint=ours, image={"width": -1}),
        "`image.sha256`": Item(id="h", vector=floats(parts, 1.0), fingerprint=ours, image={"sha256": "../x"}),
    }
    good = Item(id="good", vector=floats(parts, 1.0), fingerprint=ours)
    report = run(chunk_of(*bad.values(), good), parts)
    assert statuses(report) == ["payload_invalid"] * len(bad) + ["indexed"]
    for word, outcome in zip(bad, report.outcomes, strict=False):
        assert word in (outcome.detail or "")


def test_an_image_without_a_url_is_embedded_from_its_kept_thumbnail(keeping: Parts) -> None:
    upload = keeping.uploads.park_for_ingest(jpeg(7))
    run(chunk_of(Item(id="one", upload=upload)), keeping)
    facts = system(keeping, "one")
    keeping.index.drop("shop")
    again = Item(id="one", thumbnail=facts["sha256"], image=facts, payload={"dx": "nv"})
    chunk = chunk_of(again, job="job_b")
    assert statuses(run(chunk, keeping)) == ["indexed"]
    after = system(keeping, "one")
    for field in ("sha256", "width", "height", "format", "bytes", "url", "thumbnail"):
        assert after[field] == facts[field]
    embedded = keeping.models.default.embedder.pictures  # type: ignore[attr-defined]
    assert statuses(run(replace(chunk, job="job_c"), keeping)) == ["unchanged"]
    assert keeping.models.default.embedder.pictures == embedded  # type: ignore[attr-defined]


def test_a_kept_thumbnail_that_is_gone_says_so(keeping: Parts) -> None:
    report = run(chunk_of(Item(id="one", thumbnail="0" * 64)), keeping)
    assert statuses(report) == ["empty"]
    assert "no thumbnail" in (report.outcomes[0].detail or "")


def test_an_image_is_not_written_where_the_cancel_came_while_its_thumbnail_was_kept(
    keeping: Parts, images: ImageServer
) -> None:
    states: Iterator[LeaseState] = iter(["held", "cancelled"])
    chunk = chunk_of(item(images, "/jpeg/1.jpg", id="one"))
    report = ingest(chunk, keeping, lease=lambda: next(states))
    assert report is not None
    assert statuses(report) == ["cancelled"]
    assert keeping.index.retrieve("shop", ["one"]) == {}

"""An import whose reader dies in the middle goes on where it was: no row is lost and none is doubled."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.pictures import items
from tests.faults.processes import kill
from tests.faults.rounds import rounds
from tests.faults.site import CHUNK, LEASE_SECONDS, Site, running
from tests.faults.trial import Accepted, Trial
from tests.image_server import ImageServer, jpeg

Begin = Callable[[str], Trial]

_ROWS = 400
_AHEAD = 6  # chunks, so that reading lasts as long as indexing


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, images: ImageServer, settings: dict[str, str]
) -> Iterator[Site]:
    ours = settings | {"LOOKALIKE_IMPORT_AHEAD": str(_AHEAD)}
    with running(tmp_path_factory.mktemp("imports"), images, ours) as site:
        yield site


def feed_of_urls(images: ImageServer) -> tuple[str, bytes]:
    rows = [f"{item['id']},{item['url']}\n" for item in items(images, _ROWS, 0.05)]
    return "feed.csv", ("id,url\n" + "".join(rows)).encode()


def feed_of_pictures(images: ImageServer) -> tuple[str, bytes]:
    """Every picture another one, so that bytes which were not let go of would be seen."""
    pictures = [{"bytes": jpeg(n, (32, 32)), "path": None} for n in range(_ROWS)]
    file = io.BytesIO()
    table = pa.table({"image": pictures, "id": [f"p{n}" for n in range(_ROWS)]})
    pq.write_table(table, file, row_group_size=64)
    return "feed.parquet", file.getvalue()


def imported(trial: Trial, feed: tuple[str, bytes], **source: object) -> Accepted:
    collection = trial.new_collection()
    path = f"/v1/collections/{collection}/imports"
    parts = {"file": feed, "source": (None, json.dumps(source))}
    answer = trial.site.stack.call("POST", path, files=parts)
    assert answer.status_code == 202, answer.text
    return trial.adopt(answer.json()["id"], collection, _ROWS)


@pytest.mark.parametrize("feed", [feed_of_urls, feed_of_pictures])
@rounds(short=1, long=5)
def test_the_reader_is_killed_in_the_middle(
    trial: Begin, count: int, feed: Callable[[ImageServer], tuple[str, bytes]]
) -> None:
    reader = trial(f"ingest worker: SIGKILL while it reads a {feed.__name__.replace('_', ' ')}")
    record, stack = reader.site.record, reader.site.stack
    for _ in reader.repeat(count):
        job = imported(reader, feed(reader.site.images))
        for part in (0.2, 0.5):
            reader.until(lambda job=job, part=part: record.ended(job.id) >= part * _ROWS, job)  # type: ignore[misc]
            assert record.state(job.id) == "accepting"
            assert len(record.pending(job.id)) <= _AHEAD
            reader.strike()
            kill(stack, "worker")
            reader.await_recovery()
        reader.settle(job)


@rounds(short=1, long=5)
def test_the_reader_is_killed_and_the_feed_is_synchronised_all_the_same(trial: Begin, count: int) -> None:
    reader = trial("ingest worker: SIGKILL while it reads and removes what its feed no longer names")
    record, stack = reader.site.record, reader.site.stack
    name, feed = feed_of_urls(reader.site.images)
    header, *rows = feed.decode().splitlines(keepends=True)
    shorter = (name, "".join([header, *rows[: _ROWS // 2]]).encode())
    for _ in reader.repeat(count):
        whole = imported(reader, (name, feed))
        reader.settle(whole)
        path = f"/v1/collections/{whole.collection}/imports?sync=true&sync_share=0.5"
        job = reader.adopt(
            stack.ok("POST", path, files={"file": shorter})["id"], whole.collection, _ROWS // 2
        )
        reader.until(lambda job=job: record.ended(job.id) > 0, job)  # type: ignore[misc]
        reader.strike()
        kill(stack, "worker")
        reader.measure(lambda job=job: record.state(job.id) == "done", job)  # type: ignore[misc]
        end = reader.end(job)
        assert (end["unchanged"], end["removed"]) == (_ROWS // 2, _ROWS // 2), end
        assert stack.images(job.collection).keys() == {f"p{n}" for n in range(_ROWS // 2)}


@rounds(short=1, long=5)
def test_a_cancelled_import_is_read_no_further(trial: Begin, count: int) -> None:
    cancel = trial("ingest worker: SIGKILL while the import that it reads is cancelled")
    stack, record = cancel.site.stack, cancel.site.record
    for _ in cancel.repeat(count):
        job = imported(cancel, feed_of_urls(cancel.site.images))
        cancel.until(lambda job=job: record.ended(job.id) > 0, job)  # type: ignore[misc]
        cancel.strike()
        kill(stack, "worker")
        assert stack.call("DELETE", f"/v1/jobs/{job.id}").json()["state"] == "cancelled"
        cancel.pause(LEASE_SECONDS)
        cancel.measure(lambda job=job: not record.pending(job.id), job)  # type: ignore[misc]
        end = cancel.end(job)
        assert end["state"] == "cancelled"
        assert set(end["failures"]) == {"cancelled"}
        assert end["total"] < _ROWS - CHUNK

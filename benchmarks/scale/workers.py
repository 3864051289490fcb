"""How images a second grow with the workers: 1, 2 and 4 real ones on one broker and one Qdrant server.

Their model is made artificially slow by a known sleep, so that two cores are far from full and what is seen is the
queue's own scaling. Every count ingests the same JPEGs over HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from benchmarks.context import Context
from benchmarks.row import Row
from benchmarks.scale.processes import cpu_seconds
from benchmarks.scale.site import Site, ndjson, site
from benchmarks.scale.slow_worker import SECONDS_AN_IMAGE
from demo.image_server import serving
from tests.qdrant_server import Unavailable, qdrant_server

COUNTS = (1, 2, 4)

_SECTION = "Workers"
_APP = "benchmarks.scale.slow_worker"


@dataclass(frozen=True)
class Ingest:
    """A job of `images` by so many workers: from its submission to its end, and `steady` while all were at work.

    `cpu` is the cores that the whole benchmark kept busy meanwhile, the image server included.
    """

    workers: int
    images: int
    seconds: float
    steady: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def ingest(where: Site, count: int, urls: Sequence[str]) -> Ingest:
    """A fresh collection by `count` workers, who are all there before it begins."""
    items = ({"url": url, "id": f"{number}"} for number, url in enumerate(urls))
    with where.workers(_APP, count, f"by-{count}"):
        everything = psutil.Process()  # all that runs here is its child
        cpu_before, begun = cpu_seconds(everything), time.monotonic()
        job = where.ended(where.submit(f"by-{count}", ndjson(items)))
        cpu = (cpu_seconds(everything) - cpu_before) / (time.monotonic() - begun)
        assert job.finished_at is not None
        seconds = job.finished_at - job.created_at
    steady = steady_rate([where.log(f"by-{count}-{number}") for number in range(count)])
    return Ingest(count, len(urls), seconds, steady, cpu)


def steady_rate(logs: Sequence[Path]) -> float:
    """Images a second while all workers were at work: from the last one's first pass to the first one's last."""
    passes = [_passes(log) for log in logs]
    begin, end = max(each[0][0] for each in passes), min(each[-1][0] for each in passes)
    inside = sum(images for each in passes for moment, images in each if begin < moment <= end)
    return inside / (end - begin) if end > begin else 0.0


def _passes(log: Path) -> list[tuple[float, int]]:
    """When each pass of the model ended, and with how many images; the log is of this one job."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"message": "embedded ' in line]
    return [
        (datetime.fromisoformat(line["time"]).timestamp(), int(line["message"].split()[1])) for line in lines
    ]


def rows(context: Context) -> list[Row]:
    """Whole jobs and steady rates, more workers against one."""
    images = context.count(4096, 512)
    try:
        ingests = _measure(context, images)
    except Unavailable as error:
        return [Row.not_run(_SECTION, "images/s of 4 workers", str(error))]
    one, *more = ingests
    return [row for each in more for row in _rows_of(each, one)]


def _measure(context: Context, images: int) -> list[Ingest]:
    files = context.corpora.small
    found = []
    with serving(files[0].parent) as base, qdrant_server() as qdrant:
        urls = [f"{base}/{files[number % len(files)].name}?{number}" for number in range(images)]
        with site(context.scratch / "workers", QDRANT_URL=qdrant) as where, where.api():
            for count in COUNTS:
                found.append(ingest(where, count, urls))
                context.say(f"{_note(found[-1])}")
    return found


def _note(each: Ingest) -> str:
    return (
        f"{each.workers} workers: {each.rate:.1f} images/s, steady {each.steady:.1f}, of at most "
        f"{each.workers / SECONDS_AN_IMAGE:.0f}; {each.cpu:.2f} cores busy"
    )


def _rows_of(each: Ingest, one: Ingest) -> list[Row]:
    whole = (
        f"{each.images:,} JPEGs, a model that sleeps {SECONDS_AN_IMAGE * 1000:.0f} ms an image; "
        f"{_note(each)}; {_note(one)}"
    )
    steady = "while all of them are at work: without the job's start and its tail"
    return [
        Row(
            _SECTION,
            f"images/s of {each.workers} workers ÷ 1, {span}",
            ours,
            theirs,
            "images/s",
            note,
            at_least=0.95 * each.workers,
        )
        for span, ours, theirs, note in (
            ("whole job", each.rate, one.rate, whole),
            ("steady", each.steady, one.steady, steady),
        )
    ]

"""What a search takes over the plain sum of its parts: alone, and beside an ingest that fills the machine.

`lookalike up` as a whole, a collection of real photographs, and a client that uploads one picture after the other with
`Prefer: wait`. The parts are measured for the same picture at the same moment, in this process: decode, embed one
image, ask the same store.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import requests

from benchmarks.context import Context
from benchmarks.row import Row
from benchmarks.scale.processes import started
from demo.stack import free_port
from tests.system.stack import Stack
from workers.decode import decode
from workers.embed import Embedder, load_embedder
from workers.index.store_client import StoreClient

HOP_MS = 10.0
_LEAST_RATE = 5.0  # images/s; less is no saturating ingest
SMALL_BATCH = 4

_SECTION = "Search"
_NAME = "bench"
_STAGES = ("queue", "fetch", "embed", "search")
_FILL_SECONDS = 600.0
_LOOK_SECONDS = 0.2
_WARM_UP = 10
_BATCHES = 10
_ENDLESS = 50_000  # images of the ingest beside: more than it can do meanwhile


@dataclass(frozen=True)
class Answered:
    """One search as the client saw it: milliseconds in all, and by stage as the worker tells them."""

    total: float
    stages: dict[str, float]


@dataclass(frozen=True)
class Searches:
    """The measured searches: alone, their parts (paired with them), and beside the ingest of `rate` images/s."""

    alone: list[Answered]
    parts: dict[str, list[float]]
    small_batch: float
    beside: list[Answered]
    rate: float

    @property
    def hops(self) -> list[float]:
        """What each search alone took over the sum of its parts."""
        return [one.total - sum(parts) for one, *parts in zip(self.alone, *self.parts.values(), strict=True)]


class Parts:
    """A search's parts in this process, as a worker calls them, but for the store, which is the stack's own."""

    def __init__(self, embedder: Embedder, store: StoreClient, max_pixels: int) -> None:
        self._embedder = embedder
        self._store = store
        self._max_pixels = max_pixels
        self.milliseconds: dict[str, list[float]] = {"decode": [], "embed": [], "query": []}

    def measure(self, data: bytes) -> None:
        """One search of this picture, part by part."""
        moments = [time.perf_counter()]
        pixels = decode(data, self._embedder.shape, self._max_pixels).pixels
        moments.append(time.perf_counter())
        [vector] = self._embedder.embed([pixels])
        moments.append(time.perf_counter())
        self._store.query(_NAME, vector)
        moments.append(time.perf_counter())
        for name, begun, ended in zip(self.milliseconds, moments, moments[1:], strict=False):
            self.milliseconds[name].append((ended - begun) * 1000)

    def small_batch(self, data: bytes) -> float:
        """Median milliseconds of a forward of SMALL_BATCH pictures."""
        pixels = [decode(data, self._embedder.shape, self._max_pixels).pixels] * SMALL_BATCH
        taken = []
        for _ in range(_BATCHES):
            begun = time.perf_counter()
            self._embedder.embed(pixels)
            taken.append((time.perf_counter() - begun) * 1000)
        return float(np.median(taken))


def measure(context: Context, count: int) -> Searches:
    """A fresh stack, filled, asked `count` times alone and as often beside an ingest."""
    settings = context.settings()
    files = context.corpora.originals[: context.count(400, 64)]
    pictures = [files[number % len(files)].read_bytes() for number in range(count)]
    with _images(context.scratch, files[0].parent) as base, _stack(context, settings.model) as stack:
        urls = [f"{base}/{file.name}" for file in files]
        _await(stack, stack.submit(_NAME, ({"url": url} for url in urls)))
        parts = Parts(load_embedder(settings), StoreClient(_store_socket(stack)), settings.max_pixels)
        context.say(f"{count} searches, and their parts, on {len(files)} photographs")
        for data in pictures[:_WARM_UP]:
            _ask(stack, data)
            parts.measure(data)
        for taken in parts.milliseconds.values():
            taken.clear()
        alone = []
        for data in pictures:
            alone.append(_ask(stack, data))
            parts.measure(data)
        small_batch = parts.small_batch(pictures[0])
        context.say(f"{count} searches beside an ingest")
        beside, rate = _beside_an_ingest(stack, urls, pictures)
    return Searches(alone, parts.milliseconds, small_batch, beside, rate)


def _await(stack: Stack, job: str) -> None:
    """Until the job has ended, with all of it indexed."""
    deadline = time.monotonic() + _FILL_SECONDS
    while (now := stack.job(job))["state"] != "done":
        assert time.monotonic() < deadline, (
            f"the photographs were not indexed in {_FILL_SECONDS:.0f} s: {now}"
        )
        time.sleep(_LOOK_SECONDS)
    assert now["indexed"] == now["total"], f"not all photographs were indexed: {now}"


def _beside_an_ingest(
    stack: Stack, urls: Sequence[str], pictures: Sequence[bytes]
) -> tuple[list[Answered], float]:
    """The same searches while the same photographs are ingested over and over, and at which rate those went in."""
    items = ({"url": f"{urls[number % len(urls)]}?{number}"} for number in range(_ENDLESS))
    job = stack.submit("beside", items)
    stack.until(lambda: stack.job(job)["indexed"] > 0, "the ingest never began")
    before, begun = stack.job(job)["indexed"], time.monotonic()
    beside = [_ask(stack, data) for data in pictures]
    ended = stack.job(job)
    rate = (ended["indexed"] - before) / (time.monotonic() - begun)
    assert ended["pending"], "the ingest ended before the searches did"
    assert not ended["failed"], f"not all of the ingest's photographs were indexed: {ended}"
    assert rate >= _LEAST_RATE, f"the ingest stood still beside the searches: {rate:.1f} images/s"
    stack.call("DELETE", f"/v1/jobs/{job}")
    return beside, rate


def _ask(stack: Stack, picture: bytes) -> Answered:
    begun = time.perf_counter()
    answer = stack.search(_NAME, picture)
    total = (time.perf_counter() - begun) * 1000
    assert answer["state"] == "done", answer
    return Answered(total, answer["took_ms"])


@contextmanager
def _stack(context: Context, model: str) -> Iterator[Stack]:
    stack = Stack(context.scratch / "searches", LOOKALIKE_MODEL=model, LOOKALIKE_FETCH_ALLOW="127.0.0.0/8")
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


@contextmanager
def _images(scratch: Path, folder: Path) -> Iterator[str]:
    """An image server in a process of its own, for this one measures."""
    port = free_port(0)
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.image_server", "--port", str(port), "--folder", str(folder)]
    with started(command, {}, scratch / "images.log", partial(_missing, f"{base}/jpeg/1.jpg")):
        yield base


def _missing(url: str, pid: int) -> str | None:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return None if session.get(url, timeout=5).ok else f"{url} is no picture"
        except requests.RequestException as error:
            return str(error)


def _store_socket(stack: Stack) -> Path:
    [pid] = stack.processes("workers.index.store")
    words = psutil.Process(pid).cmdline()
    return Path(words[words.index("--socket") + 1])


def rows(context: Context) -> list[Row]:
    """The hop against its target, all against the parts, and the searches beside an ingest against those alone."""
    return rows_of(measure(context, context.count(300, 60)))


def rows_of(found: Searches) -> list[Row]:
    """The three rows of what was measured."""
    totals = [one.total for one in found.alone]
    sums = [sum(parts) for parts in zip(*found.parts.values(), strict=True)]
    beside = [one.total for one in found.beside]
    alone_p95 = _percentile(totals, 95)
    hop = (
        f"search by search, whole p50 {_percentile(totals, 50):.1f} ms − parts p50 {_percentile(sums, 50):.1f} ms; "
        f"hop p95 {_percentile(found.hops, 95):.1f} ms; the worker's own stages p50: {_stages(found.alone)}"
    )
    ingest = (
        f"p50 {_percentile(beside, 50):.1f} ms; alone p95 {alone_p95:.1f} ms, a forward of {SMALL_BATCH} "
        f"{found.small_batch:.1f} ms; the ingest ran at {found.rate:.1f} images/s; stages p50: "
        f"{_stages(found.beside)}; p95: {_stages(found.beside, 95)}"
    )
    return [
        Row(
            _SECTION,
            "hop p50 ÷ target",
            _percentile(found.hops, 50),
            HOP_MS,
            "ms",
            hop,
            at_most=1.0,
            profile=_hop_profile(found),
            profile_unit="ms",
        ),
        Row(
            _SECTION,
            "whole search p50 ÷ its parts",
            _percentile(totals, 50),
            _percentile(sums, 50),
            "ms",
            f"p95 {alone_p95:.1f} ÷ {_percentile(sums, 95):.1f} ms",
            profile={name: _percentile(taken, 50) for name, taken in found.parts.items()},
            profile_unit="ms",
        ),
        Row(
            _SECTION,
            "p95 during an ingest ÷ (2 × alone + a small batch)",
            _percentile(beside, 95),
            2 * alone_p95 + found.small_batch,
            "ms",
            ingest,
            at_most=1.0,
        ),
    ]


def _hop_profile(found: Searches) -> dict[str, float]:
    """What the hop consists of, p50: each stage of the worker over the part that it is, and all that is not its own."""
    parts = {"queue": (), "fetch": (), "embed": ("decode", "embed"), "search": ("query",)}
    profile = {
        stage: _percentile(
            [
                one.stages[stage] - sum(found.parts[name][number] for name in names)
                for number, one in enumerate(found.alone)
            ],
            50,
        )
        for stage, names in parts.items()
    }
    return profile | {"upload, API and answer": _percentile([_rest(one) for one in found.alone], 50)}


def _stages(searches: Sequence[Answered], percent: float = 50) -> str:
    told = {stage: [one.stages[stage] for one in searches] for stage in _STAGES}
    told["rest"] = [_rest(one) for one in searches]
    return ", ".join(f"{stage} {_percentile(taken, percent):.1f}" for stage, taken in told.items())


def _rest(one: Answered) -> float:
    return one.total - sum(one.stages.values())


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent))

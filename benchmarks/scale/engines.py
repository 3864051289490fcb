"""How the engines bear 10,000, 100,000 and a million vectors: latency, recall, upserts, memory.

Both are asked as a worker asks them: the embedded store in its own process through StoreClient, the Qdrant server
through ServerIndex, chunk by chunk and one search at a time. The embedded engine builds no HNSW by itself, so it is
measured a second time on a copy whose graph was built (`optimised`); the server is measured as the last upsert
returns and again once its own optimiser has ended (`indexed`). At a million vectors either takes over half an hour on
two cores, so graphs are awaited up to LARGEST_GRAPH only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import requests

from benchmarks.context import Context
from benchmarks.row import Row
from benchmarks.scale.processes import cpu_seconds, resident_bytes, started
from benchmarks.scale.vectors import BLOCK, DIMENSION, Clusters, Truth
from demo.stack import ROOT
from shared.contract import SYSTEM_KEY, ModelCard
from shared.errors import IndexUnavailable
from tests.qdrant_server import Unavailable, mortal_qdrant_server
from workers.index.interface import Index, Point, version_key
from workers.index.server import ServerIndex
from workers.index.store_client import StoreClient

SIZES = (10_000, 100_000, 1_000_000)
LARGEST_GRAPH = 100_000
QUICK_SIZES = (5_000, 20_000)
QUERIES = 200
CHUNK = 64  # a worker upserts its chunks one by one

_NAME = "bench"
_CARD = ModelCard(name="clusters", revision="1", preprocessing="none", dimension=DIMENSION)
_SECTION = "Engines"
_OPTIMISE = "import sys, qdrant_edge; qdrant_edge.EdgeShard.load(sys.argv[1]).optimize()"
_LOOK_SECONDS = 0.25
_GREEN_SECONDS = 2.0  # an optimiser begins a moment after the upsert that made it necessary


@dataclass(frozen=True)
class Engine:
    """An engine with the collection `bench` on it, and the process that it runs in."""

    index: Index
    process: psutil.Process


@dataclass(frozen=True)
class Growth:
    """What it took to get to a size: upserts a second, and CPU milliseconds of each on both sides."""

    rate: float
    client_ms: float
    engine_ms: float


@dataclass(frozen=True)
class Asked:
    """QUERIES searches, one at a time: milliseconds, recall of the ten nearest, and the engine's resident bytes.

    `exact_ms` is the median of the same searches with `exact`, `find_ms` that of the look at the collection that
    precedes every search.
    """

    p50: float
    p95: float
    exact_ms: float
    find_ms: float
    recall: float
    resident: int


def ask(engine: Engine, truth: Truth) -> Asked:
    """The engine's answers against the exact ones."""
    found, milliseconds = _search(engine.index, truth.queries, exact=False)
    _, exact_milliseconds = _search(engine.index, truth.queries[: QUERIES // 4], exact=True)
    return Asked(
        p50=float(np.percentile(milliseconds, 50)),
        p95=float(np.percentile(milliseconds, 95)),
        exact_ms=float(np.percentile(exact_milliseconds, 50)),
        find_ms=_find_ms(engine.index),
        recall=truth.recall(found),
        resident=resident_bytes(engine.process),
    )


def _find_ms(index: Index) -> float:
    milliseconds = []
    for _ in range(QUERIES // 4):
        begun = time.perf_counter()
        index.find(_NAME)
        milliseconds.append((time.perf_counter() - begun) * 1000)
    return float(np.percentile(milliseconds, 50))


def _search(index: Index, queries: np.ndarray, *, exact: bool) -> tuple[list[list[int]], list[float]]:
    found, milliseconds = [], []
    for query in queries:
        begun = time.perf_counter()
        hits = index.query(_NAME, query, exact=exact)
        milliseconds.append((time.perf_counter() - begun) * 1000)
        found.append([int(hit.id) for hit in hits])
    return found, milliseconds


def grow(engine: Engine, blocks: Sequence[int], clusters: Clusters, truth: Truth) -> Growth:
    """Upsert blocks of vectors, and let the truth know of them. Making them is in no figure."""
    seconds = client_seconds = 0.0
    engine_before = cpu_seconds(engine.process)
    for block in blocks:
        vectors = clusters.block(block)
        truth.add(block * BLOCK, vectors)
        points = [_point(block * BLOCK + row, vector) for row, vector in enumerate(vectors)]
        begun, client_begun = time.monotonic(), time.thread_time()
        for start in range(0, BLOCK, CHUNK):
            engine.index.upsert(_NAME, points[start : start + CHUNK])
        seconds += time.monotonic() - begun
        client_seconds += time.thread_time() - client_begun
    count = len(blocks) * BLOCK
    engine_seconds = cpu_seconds(engine.process) - engine_before
    return Growth(count / seconds, client_seconds * 1000 / count, engine_seconds * 1000 / count)


def _point(number: int, vector: np.ndarray) -> Point:
    """As an ingest writes it."""
    system = {
        "id": str(number),
        "url": f"https://images.shop.example/{number}.jpg",
        "sha256": f"{number:064x}",
        "width": 1024,
        "height": 768,
        "format": "JPEG",
        "bytes": 61_000,
        "model": _CARD.fingerprint,
        "indexed_at": "2026-01-01T00:00:00.000Z",
        "job": f"job_{number // CHUNK:020x}/1",
    }
    return Point(str(number), {"shelf": number % 100, SYSTEM_KEY: system}, vector)


@dataclass(frozen=True)
class Stage:
    """One engine at one size, in one state; `seconds` is what it took to get from the one before into this one."""

    engine: str
    size: int
    state: str
    asked: Asked
    growth: Growth
    seconds: float = 0.0


def measure_embedded(context: Context, sizes: Sequence[int]) -> Iterator[Stage]:
    """The store as it grows; and at each size a copy of its folder, optimised and served by a store of its own."""
    clusters = Clusters()
    truth = Truth(clusters.queries(QUERIES))
    folder = context.scratch / "store"
    size = 0
    for wanted in sizes:
        with embedded(folder) as engine:
            growth = grow(engine, range(size // BLOCK, wanted // BLOCK), clusters, truth)
            yield Stage("embedded store", wanted, "as shipped", ask(engine, truth), growth)
        size = wanted
        if wanted <= LARGEST_GRAPH:
            context.say(f"building the graph of {wanted:,} vectors, on a copy")
            copy = context.scratch / "optimised"
            shutil.copytree(folder, copy)
            seconds = _optimise(copy)
            with embedded(copy) as engine:
                yield Stage("embedded store", wanted, "optimised", ask(engine, truth), growth, seconds)
            shutil.rmtree(copy)
    shutil.rmtree(folder)


def _optimise(folder: Path) -> float:
    """Seconds that the engine's own `optimize` takes, in a process of its own, for it holds the GIL."""
    begun = time.monotonic()
    shard = folder / version_key(_NAME, 1) / "shard"
    subprocess.run([sys.executable, "-c", _OPTIMISE, str(shard)], cwd=ROOT, check=True)
    return time.monotonic() - begun


@contextmanager
def embedded(folder: Path) -> Iterator[Engine]:
    """The embedded store on `folder`, in a process of its own."""
    # Not in the folder: a unix socket's path may have no more than about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="lookalike-") as sockets:
        socket = Path(sockets) / "s"
        command = [
            sys.executable,
            "-m",
            "workers.index.store",
            "--socket",
            str(socket),
            "--folder",
            str(folder),
        ]
        with started(command, {}, Path(sockets) / "log", lambda _: _missing(socket)) as process:
            index = StoreClient(socket)
            index.create(_NAME, _CARD)
            yield Engine(index, process)
            index.close()


def _missing(socket: Path) -> str | None:
    try:
        StoreClient(socket).ping()
    except IndexUnavailable as error:
        return error.detail
    return None


def measure_server(context: Context, sizes: Sequence[int]) -> Iterator[Stage]:
    """The Qdrant server as it grows: as the last upsert returns, and when its optimiser has ended. Unavailable."""
    clusters = Clusters()
    truth = Truth(clusters.queries(QUERIES))
    size = 0
    with mortal_qdrant_server() as server:
        index = ServerIndex(server.url)
        index.create(_NAME, _CARD)
        engine = Engine(index, psutil.Process(server.pid))
        for wanted in sizes:
            growth = grow(engine, range(size // BLOCK, wanted // BLOCK), clusters, truth)
            yield Stage("Qdrant server", wanted, "as loaded", ask(engine, truth), growth)
            size = wanted
            if wanted <= LARGEST_GRAPH:
                context.say(f"waiting for the server's graph of {wanted:,} vectors")
                seconds = _await_indexed(server.url)
                yield Stage("Qdrant server", wanted, "indexed", ask(engine, truth), growth, seconds)
        index.close()


def _await_indexed(url: str) -> float:
    """Seconds until the collection's status is and stays green."""
    begun = last_other = time.monotonic()
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() - last_other < _GREEN_SECONDS:
            time.sleep(_LOOK_SECONDS)
            status = session.get(f"{url}/collections/{_NAME}", timeout=30).json()["result"]["status"]
            if status != "green":
                last_other = time.monotonic()
    return last_other - begun


def rows(context: Context) -> list[Row]:
    """Each size's search and upserts against the smallest size's, on both engines."""
    sizes = QUICK_SIZES if context.quick else SIZES
    stages = list(_told(context, measure_embedded(context, sizes)))
    try:
        stages += _told(context, measure_server(context, sizes))
    except Unavailable as error:
        return [*_rows(stages), Row.not_run(_SECTION, "Qdrant server", str(error))]
    return _rows(stages)


def _told(context: Context, stages: Iterator[Stage]) -> Iterator[Stage]:
    for stage in stages:
        context.say(f"{_name(stage)}: p50 {stage.asked.p50:.2f} ms, {_search_note(stage)}")
        yield stage


def _rows(stages: Sequence[Stage]) -> list[Row]:
    first: dict[tuple[str, str], Stage] = {}
    found = []
    for stage in stages:
        smallest = first.setdefault((stage.engine, stage.state), stage)
        found.append(_search_row(stage, smallest))
        if stage.state in ("as shipped", "as loaded"):
            found.append(_upsert_row(stage, smallest))
    return found


def _name(stage: Stage) -> str:
    return f"{stage.engine}, {stage.size:,} vectors, {stage.state}"


def _search_row(stage: Stage, smallest: Stage) -> Row:
    return Row(
        _SECTION,
        f"search p50: {_name(stage)}",
        stage.asked.p50,
        smallest.asked.p50,
        "ms",
        f"against {smallest.size:,} vectors; {_search_note(stage)}",
    )


def _search_note(stage: Stage) -> str:
    asked = stage.asked
    took = f", {stage.seconds:.0f} s to get there" if stage.seconds else ""
    return (
        f"p95 {asked.p95:.2f} ms, recall@10 {asked.recall:.3f}, exact {asked.exact_ms:.2f} ms, "
        f"find {asked.find_ms:.2f} ms, engine {asked.resident / 2**20:,.0f} MiB{took}"
    )


def _upsert_row(stage: Stage, smallest: Stage) -> Row:
    growth = stage.growth
    return Row(
        _SECTION,
        f"upserts up to {stage.size:,}: {stage.engine}",
        growth.rate,
        smallest.growth.rate,
        "points/s",
        f"in chunks of {CHUNK}, against the first {smallest.size:,}; CPU a point: "
        f"client {growth.client_ms:.2f} ms, engine {growth.engine_ms:.2f} ms",
    )

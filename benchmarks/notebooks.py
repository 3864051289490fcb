"""The real stack against the two notebooks' ways: same pictures, same weights, same Qdrant server, turn by turn.

Each way has a process of its own, and the stack stands idle while a notebook has its turn.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import QdrantClient

from benchmarks.agreement import agreement
from benchmarks.child import run_child
from benchmarks.context import Context
from benchmarks.image_server import serving
from benchmarks.row import Row
from benchmarks.stack import Stack, lookalike
from benchmarks.variants import NAMES, Missing, Name, Variant, unseen, variant
from tests.qdrant_server import Unavailable, qdrant_server

SECTION = "notebooks"
_DOWNLOAD_SECONDS = 0.05
_OURS_A_NOTEBOOKS = 2  # images of ours for each of a notebook's: starting and ending weigh alike in seconds

_MEDICAL: dict[Name, float] = {"torch": 2.3, "openvino": 3.0, "int8": 4.5}
_SHOP: dict[Name, float] = {"torch": 3.5, "openvino": 3.5, "int8": 6.0}
_COSINE: dict[Name, float] = {"torch": 0.9995, "openvino": 0.9995}


@dataclass
class Pace:
    """Images and seconds, added up over the turns."""

    images: int = 0
    seconds: float = 0.0

    def add(self, images: int, seconds: float) -> None:
        self.images += images
        self.seconds += seconds

    @property
    def rate(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True)
class Bench:
    """What every turn needs."""

    context: Context
    stack: Stack
    qdrant: str
    files: Sequence[Path]

    @property
    def version(self) -> str:
        """Of the Qdrant server."""
        return str(QdrantClient(url=self.qdrant, check_compatibility=False).info().version)

    def notebook(self, module: str, **inputs: list[str]) -> float:
        """Seconds that a notebook's way took."""
        order = {
            "model": str(self.context.vit),
            "qdrant": self.qdrant,
            "collection": uuid.uuid4().hex,
            **inputs,
        }
        return float(run_child(module, order, no_proxy="*", HF_HUB_OFFLINE="1"))


def rows(context: Context) -> Iterator[Row]:
    try:
        for name in NAMES:
            with qdrant_server() as qdrant:  # an empty one each: the int8 model's collections are its own
                yield from _rows_of(context, name, qdrant)
    except Unavailable as why:
        yield Row.not_run(SECTION, "÷ both notebooks", str(why))


def _rows_of(context: Context, name: Name, qdrant: str) -> Iterator[Row]:
    try:
        way = variant(context, name)
    except Missing as why:
        yield Row.not_run(SECTION, f"÷ both notebooks, {name}", str(why))
        return
    files = context.corpora.small[: context.count(full=len(context.corpora.small), quick=32)]
    with lookalike(context, way.environment | {"QDRANT_URL": qdrant}) as stack:
        bench = Bench(context, stack, qdrant, files)
        yield _medical(bench, way)
        yield _shop(bench, way)
    yield from _agreement(context, way)


def _medical(bench: Bench, way: Variant) -> Row:
    ours, theirs = Pace(), Pace()
    for turn in _turns(bench, f"the medical notebook and {way.name}"):
        theirs.add(
            len(bench.files), bench.notebook("benchmarks.medical", files=[str(f) for f in bench.files])
        )
        _ingest(bench, ours, f"medical{turn}-", delay=0)
    return _row(
        bench,
        f"÷ medical notebook, {way.name}",
        (ours, theirs),
        _MEDICAL[way.name],
        "ours by HTTP ÷ fp32, transformers' processor in `datasets.map`, batches of 16, local files",
    )


def _shop(bench: Bench, way: Variant) -> Row:
    ours, theirs = Pace(), Pace()
    for turn in _turns(bench, f"the shop notebook and {way.name}"):
        with serving(bench.files, _DOWNLOAD_SECONDS) as server:
            urls = server.urls(len(bench.files))
            theirs.add(len(urls), bench.notebook("benchmarks.shop", urls=urls))
        _ingest(bench, ours, f"shop{turn}-", delay=_DOWNLOAD_SECONDS)
    return _row(
        bench,
        f"÷ shop notebook, 50 ms a download, {way.name}",
        (ours, theirs),
        _SHOP[way.name],
        "both with the same delay ÷ fp32, urllib, one download and one picture a forward",
    )


def _turns(bench: Bench, what: str) -> Sequence[int]:
    turns = range(bench.context.count(full=2, quick=1))
    bench.context.say(f"{what}: {len(bench.files)} pictures, {len(turns)} turns each")
    return turns


def _ingest(bench: Bench, pace: Pace, mark: str, delay: float) -> None:
    with serving(bench.files, delay) as server:
        urls = server.urls(_OURS_A_NOTEBOOKS * len(bench.files), mark)
        pace.add(len(urls), bench.stack.ingest(urls, server).seconds)


def _row(bench: Bench, name: str, paces: tuple[Pace, Pace], at_least: float, what: str) -> Row:
    ours, theirs = paces
    note = (
        f"{what}; {ours.images} images in {ours.seconds:.0f} s ÷ {theirs.images} in {theirs.seconds:.0f} s, one "
        f"Qdrant server {bench.version} for both"
    )
    return Row(SECTION, name, ours.rate, theirs.rate, "images/s", note, at_least=at_least)


def _agreement(context: Context, way: Variant) -> list[Row]:
    files = unseen(context)[: context.count(full=1000, quick=48)]
    context.say(f"vectors of {len(files)} photographs, {way.name} and fp32")
    found = agreement(way, context.vit, files)
    pictures = f"{len(files)} real photographs" + (
        ", none of which the calibration saw" if way.name == "int8" else ""
    )
    return [
        Row(
            SECTION,
            f"least centred cosine to fp32, {way.name}",
            found.cosine,
            1.0,
            "cosine",
            f"the worst of {pictures}, their mean taken off first ÷ 1",
            at_least=_COSINE.get(way.name),
        ),
        Row(
            SECTION,
            f"top 10 as in fp32, {way.name}",
            found.neighbours,
            1.0,
            "share",
            f"the ten nearest that fp32 finds too, of {pictures} ÷ all",
        ),
    ]

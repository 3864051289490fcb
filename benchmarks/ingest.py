"""The real stack against the plain sum of its parts: images/s reached ÷ images/s that the CPU allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.context import Context
from benchmarks.image_server import serving
from benchmarks.row import Row
from benchmarks.stack import Ingested, Stack, lookalike
from benchmarks.stages import Stages, kilobytes, measure
from benchmarks.variants import NAMES, Missing, Name, Variant, variant

SECTION = "ingest"
_FULL_SECONDS = 40.0
_QUICK_SECONDS = 8.0


@dataclass(frozen=True)
class Size:
    """Pictures of one size, and the part of the limit that is wanted for them."""

    name: str
    files: Sequence[Path]
    at_least: float


def rows(context: Context) -> Iterator[Row]:
    corpora = context.corpora
    sizes = [Size("600 × 450", corpora.small, 0.95), Size("3000 × 2000", corpora.large, 0.90)]
    for name in NAMES:
        try:
            way = variant(context, name)
        except Missing as why:
            yield from (Row.not_run(SECTION, _title(name, size), str(why)) for size in sizes)
            continue
        with lookalike(context, way.environment) as stack:
            for size in sizes:
                yield from _measured(context, stack, way, size)


def _measured(context: Context, stack: Stack, way: Variant, size: Size) -> list[Row]:
    context.say(f"{_title(way.name, size)}: the stages")
    before = measure(context, way, size.files)
    limit = before.limit(context.cores)
    count = round(limit * (_QUICK_SECONDS if context.quick else _FULL_SECONDS))
    context.say(f"{_title(way.name, size)}: {count} images through the stack, at most {limit:.1f}/s")
    with serving(size.files) as server:
        ingested = stack.ingest(server.urls(count), server)
    stages = before.mean(measure(context, way, size.files))
    return [_reached(context, way, size, stages, ingested), _spent(way, size, stages, ingested)]


def _reached(context: Context, way: Variant, size: Size, stages: Stages, ingested: Ingested) -> Row:
    return Row(
        SECTION,
        _title(way.name, size),
        ours=ingested.rate,
        theirs=stages.limit(context.cores),
        unit="images/s",
        at_least=size.at_least,
        note=f"`lookalike up`, submission to end of {ingested.images} JPEGs of {kilobytes(size.files):.0f} KB in "
        f"{ingested.seconds:.0f} s (steady: {ingested.steady_rate:.1f}/s) ÷ {context.cores} cores ÷ (fetch "
        f"{stages.fetch:.2f} + decode {stages.decode:.2f} + forward {stages.forward:.2f} ms of CPU, all cores at "
        f"work, the mean of before and after; a forward alone: {stages.forward_alone:.2f})",
        profile=ingested.profile,
        profile_unit="CPU ms/image",
    )


def _spent(way: Variant, size: Size, stages: Stages, ingested: Ingested) -> Row:
    return Row(
        SECTION,
        f"CPU of all processes ÷ of the stages, {size.name}, {way.name}",
        ours=ingested.cpu_an_image,
        theirs=stages.sum,
        unit="CPU ms/image",
        note="what the stack, the image server and this bench spent in the ingest of the row above ÷ fetch + decode + "
        "forward; unlike images/s it does not depend on what else the machine had to do",
    )


def _title(name: Name, size: Size) -> str:
    return f"end to end ÷ limit, {size.name}, {name}"

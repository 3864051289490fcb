"""The ingest worker's memory over many images: it should be as large at the end as it was at the start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from matplotlib.figure import Figure

from benchmarks.context import Context
from benchmarks.image_server import serving
from benchmarks.row import Row
from benchmarks.stack import Stack, done, lookalike

SECTION = "memory"
_SAMPLE_SECONDS = 1.0
_AT_MOST = 1.05  # what an allocator may hold on to


@dataclass(frozen=True)
class Sample:
    """Resident MiB when so many images were done: of the worker, and of it and its decoding processes."""

    images: int
    worker: float
    family: float


def rows(context: Context) -> list[Row]:
    count = context.count(full=20_000, quick=2_000)
    context.say(f"{count} images, and the worker's memory every second")
    with (
        serving(context.corpora.small) as server,
        lookalike(context, {"LOOKALIKE_MODEL": str(context.vit)}) as stack,
    ):
        samples = list(sampled(stack, server.urls(count)))
    figure = plot(samples, context.scratch / "memory.svg")
    return [
        _row("worker alone", samples, lambda sample: sample.worker, figure),
        _row("worker and its decoding processes", samples, lambda sample: sample.family, None),
    ]


def sampled(stack: Stack, urls: Sequence[str]) -> list[Sample]:
    worker = stack.worker()
    samples: list[Sample] = []
    due = time.monotonic()
    for state in stack.states(stack.submit(urls, "memory")):
        if time.monotonic() >= due:
            samples.append(_sample(worker, done(state)))
            due += _SAMPLE_SECONDS
    return samples


def plot(samples: Sequence[Sample], file: Path) -> Path:
    """Both lines over the images, as SVG."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    images = [sample.images for sample in samples]
    axes.plot(images, [sample.family for sample in samples], label="worker and its decoding processes")
    axes.plot(images, [sample.worker for sample in samples], label="worker alone")
    axes.set(xlabel="images indexed", ylabel="resident MiB", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(file, metadata={"Date": None})
    return file


def _sample(worker: psutil.Process, images: int) -> Sample:
    alone = _mebibytes(worker)  # NoSuchProcess: a worker that died has not kept its memory flat
    family = alone
    for decoder in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it is replaced after a picture that it did not survive
            family += _mebibytes(decoder)
    return Sample(images, alone, family)


def _mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def _row(what: str, samples: Sequence[Sample], size: Callable[[Sample], float], figure: Path | None) -> Row:
    """The last tenth of the images against the second one: in the first the worker is still filling up."""
    total = samples[-1].images

    def mean(first: float, last: float) -> float:
        sizes = [size(sample) for sample in samples if first * total <= sample.images <= last * total]
        return sum(sizes) / len(sizes)

    growth = mean(0.75, 1) - mean(0, 0.25)
    return Row(
        SECTION,
        f"memory, {what}",
        ours=mean(0.9, 1),
        theirs=mean(0.1, 0.2),
        unit="MiB resident",
        at_most=_AT_MOST,
        note=f"mean over the last tenth of {total} images ÷ mean over the second tenth; from the first quarter to the "
        f"last it grew by {growth:+.1f} MiB",
        figure=figure,
    )

"""What fetch, decode and forward each cost an image, measured one after the other.

    python -m benchmarks.stages

The worker's own Fetcher, Decoders and Embedder work here, in a process of their own. The limit of any ingest on this
machine is its cores ÷ the sum of the three: nothing waits, and nothing else costs anything. Each stage has as many
threads as in an ingest: cores share caches and memory, and each is slower beside one that is busy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from benchmarks.child import read_order, run_child
from benchmarks.context import Context
from benchmarks.image_server import cpu_seconds, serving
from benchmarks.row import Row
from benchmarks.variants import Variant, variant
from shared.settings import Settings
from workers.decode import decode
from workers.decoders import Decoders
from workers.embed import Embedder, choose_device, load_embedder
from workers.fetch import Fetcher
from workers.plan import planned
from workers.rows import Rows

T = TypeVar("T")
R = TypeVar("R")

SECTION = "stages"
_BUDGET_MS = 3.0  # the issue's, for fetch and decode of a 600 × 450 JPEG


@dataclass(frozen=True)
class Stages:
    """CPU milliseconds an image, `forward_alone` with the other cores idle.

    `bare_decode` is the decoder's function called in this very process, by one thread.
    """

    fetch: float
    decode: float
    forward: float
    forward_alone: float
    bare_decode: float

    @property
    def sum(self) -> float:
        """What an image costs at least."""
        return self.fetch + self.decode + self.forward

    def limit(self, cores: int) -> float:
        """Images a second where these three are all there is."""
        return 1000 * cores / self.sum

    def mean(self, other: Stages) -> Stages:
        ours, theirs = vars(self), vars(other)
        return Stages(**{name: (ours[name] + theirs[name]) / 2 for name in ours})

    def profile(self) -> dict[str, float]:
        return {name.replace("_", " "): milliseconds for name, milliseconds in vars(self).items()}


def rows(context: Context) -> list[Row]:
    files = context.corpora.small
    context.say(f"fetch, decode and forward of {len(files)} photographs of 600 × 450")
    stages = measure(context, variant(context, "torch"), files)
    return [
        Row(
            SECTION,
            "fetch + decode, 600 × 450 JPEG",
            ours=stages.fetch + stages.decode,
            theirs=_BUDGET_MS,
            unit="CPU ms/image",
            at_most=1,
            note=f"{kilobytes(files):.0f} KB on average, through the worker's fetcher and its decoding processes ÷ "
            f"the budget of {_BUDGET_MS:g} ms",
            profile=stages.profile(),
            profile_unit="CPU ms/image",
        )
    ]


def measure(context: Context, way: Variant, files: Sequence[Path]) -> Stages:
    """The stages of these files, computed this way."""
    count = context.count(full=200, quick=64)
    with serving(files) as server:
        order = {"urls": server.urls(count, "stages"), "forwards": context.count(full=96, quick=32)}
        allowed = {"LOOKALIKE_FETCH_ALLOW": "127.0.0.0/8", "OMP_NUM_THREADS": "1"}
        return Stages(**run_child("benchmarks.stages", order, **allowed, **way.environment))


def kilobytes(files: Sequence[Path]) -> float:
    return sum(file.stat().st_size for file in files) / len(files) / 1000


def _measure_here(urls: Sequence[str], forwards: int) -> Stages:
    settings = Settings()
    settings = planned(settings, choose_device(settings))
    embedder = load_embedder(settings)
    fetch, bodies = _fetch(settings, urls)
    files = [bytes(body) for body in bodies]
    decoding, pictures = _decode(settings, embedder, files)
    bare, _ = _timed(lambda data: decode(data, embedder.shape, settings.max_pixels), files)
    alone, together = (
        _forward(embedder, pictures[:forwards], settings.batch_size, threads)
        for threads in (1, settings.embed_threads)
    )
    return Stages(fetch=fetch, decode=decoding, forward=together, forward_alone=alone, bare_decode=bare)


def _fetch(settings: Settings, urls: Sequence[str]) -> tuple[float, list[bytearray]]:
    fetcher = Fetcher(settings)
    threads = min(settings.fetch_threads, settings.fetch_per_host)
    try:
        return _timed(lambda url: fetcher.fetch(url).data, urls, threads, warm=4 * threads)
    finally:
        fetcher.close()


def _decode(settings: Settings, embedder: Embedder, files: Sequence[bytes]) -> tuple[float, list[np.ndarray]]:
    processes = settings.decode_processes
    decoders = Decoders(settings, embedder.shape, Rows(2 * processes, embedder.shape))

    def pixels(data: bytes) -> np.ndarray:
        picture = decoders.decode(data)
        copied = picture.pixels.copy()
        picture.let_go()
        return copied

    try:
        return _timed(pixels, files, processes, warm=4 * processes)  # in which they start
    finally:
        decoders.close()


def _forward(embedder: Embedder, pictures: Sequence[np.ndarray], size: int, threads: int) -> float:
    batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    milliseconds, _ = _timed(embedder.embed, batches, threads, warm=2 * threads)
    return milliseconds * len(batches) / len(pictures)


def _timed(
    work: Callable[[T], R], inputs: Sequence[T], threads: int = 1, warm: int = 1
) -> tuple[float, list[R]]:
    """CPU milliseconds an input, with what child processes spent on it; and what came out.

    The same threads do the first `warm` before, unmeasured.
    """
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, inputs[:warm]))
        begun = _cpu_seconds()
        results = list(pool.map(work, inputs))
        return 1000 * (_cpu_seconds() - begun) / len(inputs), results


def _cpu_seconds() -> float:
    """Of all threads of this process, and of its living children."""
    return time.process_time() + sum(map(cpu_seconds, psutil.Process().children(recursive=True)))


if __name__ == "__main__":
    print(json.dumps(vars(_measure_here(**read_order()))))

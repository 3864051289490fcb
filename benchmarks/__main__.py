"""Ingest against the plain sum of its parts, on real photographs over HTTP.

Each stage's CPU seconds an image are measured alone; the limit is cores ÷ their sum. Then the real stack, `lookalike
up`, ingests the same photographs from the same server, and what it reached is divided by the limit.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from rich.console import Console

from cli.client import Client, collection_path
from cli.progress import wait
from demo.image_server import serving
from demo.radios import ensure
from demo.searches import image_url
from demo.stack import ROOT, free_port, running
from shared.settings import Settings
from workers.decode import decode
from workers.embed import load_embedder
from workers.fetch import Fetcher

T = TypeVar("T")
R = TypeVar("R")

BATCH = 16
console = Console(highlight=False)


def main() -> None:
    radios = ensure(ROOT / ".cache", console)
    photos = [photo for photo in radios.photos() if photo.file.suffix.lower() == ".jpg"]
    with serving(radios.images) as images:
        urls = [image_url(images, photo) for photo in photos]
        stages = measure_stages(urls)
        reached = ingest(urls)
    cores = len(os.sched_getaffinity(0))
    limit = cores / sum(stages.values())
    for stage, seconds in stages.items():
        console.print(f"  {stage:<10}{seconds * 1000:8.2f} ms of CPU an image")
    console.print(f"  limit     {limit:8.1f} images/s on {cores} cores")
    console.print(f"  reached   {reached:8.1f} images/s")
    console.print(f"  ratio     {reached / limit:8.2f}")


def measure_stages(urls: Sequence[str]) -> dict[str, float]:
    """CPU seconds an image of each stage, one thread. The image server's own work is in none of them."""
    settings = Settings(fetch_allow="127.0.0.0/8", model="efficientnet-lite2")  # type: ignore[arg-type]
    fetcher, embedder = Fetcher(settings), load_embedder(settings)
    fetched, fetch_seconds = timed(lambda url: fetcher.fetch(url).data, urls)
    pictures, decode_seconds = timed(
        lambda data: decode(data, embedder.shape, settings.max_pixels).pixels, fetched
    )
    batches = [np.stack(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
    _, forward_seconds = timed(embedder.embed, batches)
    fetcher.close()
    return {
        "fetch": fetch_seconds / len(urls),
        "decode": decode_seconds / len(urls),
        "forward": forward_seconds / len(urls),
    }


def timed(work: Callable[[T], R], inputs: Sequence[T]) -> tuple[list[R], float]:
    """What the work gives, and the CPU seconds that this thread spent on it."""
    begun = time.thread_time()
    return [work(each) for each in inputs], time.thread_time() - begun


def ingest(urls: Sequence[str]) -> float:
    """Images a second of a fresh stack, from the submission to the job's end."""
    data = ROOT / "demo" / "data" / f"bench-{os.getpid()}"
    data.mkdir(parents=True)
    with running(data, free_port(8080), console) as stack:
        stack.wait_until_ready()
        client = Client(Settings(url=stack.url, api_key=None))
        begun = time.monotonic()
        items = {"items": [{"url": url} for url in urls]}
        job = client.post(collection_path("bench", "/jobs"), json=items)
        [ended] = wait(client, [job["id"]])
        seconds = time.monotonic() - begun
    if ended["indexed"] != len(urls):
        raise SystemExit(f"Only {ended['indexed']} of {len(urls)} were indexed: {ended['failures']}")
    shutil.rmtree(data)
    return len(urls) / seconds


if __name__ == "__main__":
    main()

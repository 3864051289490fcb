"""The real stack, `lookalike up`, under a load: how fast it was, and which of its processes spent what."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.context import Context
from benchmarks.image_server import ImageServer, cpu_seconds
from benchmarks.variants import environment
from cli.client import Client, collection_path, job_path
from cli.progress import ENDED
from demo.stack import free_port, running
from shared.settings import Settings

_POLL_SECONDS = 0.5
_LEAST_MOMENTS = 10

# A process's part in the stack, by a word of its command line; the first that fits.
_ROLES = {
    "workers.decoder": "decoders",
    "workers.index.store": "store",
    "-Q ingest": "ingest worker",
    "-Q search": "search worker",
    "gunicorn": "API",
    "valkey": "broker",
    "redis": "broker",
    "cli.main": "supervisor",
    "cli.guard": "guard",
}


class IngestError(Exception):
    """Not every image came through, so its rate means nothing."""


@dataclass(frozen=True)
class Moment:
    """What a job had done when it was looked at, `seconds` after it was submitted."""

    seconds: float
    done: int


@dataclass(frozen=True)
class Ingested:
    """One job: images, its seconds from the submission to its end, and CPU seconds by process.

    `others` are the CPU seconds of programs that are no part of this, `idle` those that nobody used.
    """

    images: int
    seconds: float
    moments: Sequence[Moment]
    cpu: dict[str, float]
    others: float
    idle: float

    @property
    def rate(self) -> float:
        """Images a second, starting and ending included."""
        return self.images / self.seconds

    @property
    def steady_rate(self) -> float:
        """Images a second without starting and ending: the slope of a line through the middle of the job.

        Chunks end in groups, so that two moments alone would say little.
        """
        middle = [m for m in self.moments if 0.1 * self.images <= m.done <= 0.9 * self.images]
        if len(middle) < _LEAST_MOMENTS:
            return self.rate
        return float(np.polyfit([m.seconds for m in middle], [m.done for m in middle], 1)[0])

    @property
    def profile(self) -> dict[str, float]:
        """CPU milliseconds an image of each process, the largest first; then what was not spent on it."""
        largest_first = sorted(self.cpu.items(), key=lambda entry: -entry[1])
        seconds = {**dict(largest_first), "other programs": self.others, "idle": self.idle}
        return {name: 1000 * each / self.images for name, each in seconds.items()}

    @property
    def cpu_an_image(self) -> float:
        """CPU milliseconds an image of the whole stack."""
        return 1000 * sum(self.cpu.values()) / self.images


class Stack:
    """A stack that is ready. `root` is the process of `lookalike up`."""

    def __init__(self, url: str, root: psutil.Process) -> None:
        self.root = root
        self._client = Client(Settings(url=url, api_key=None))

    def ingest(self, urls: Sequence[str], server: ImageServer) -> Ingested:
        """Submit `server`'s URLs as one job and wait for it. Raises IngestError unless each of them is indexed."""
        before, begun = self._usage(server), time.monotonic()
        job = self.submit(urls, "bench")
        moments = [Moment(time.monotonic() - begun, done(state)) for state in self.states(job)]
        spent = {name: seconds - before.get(name, 0) for name, seconds in self._usage(server).items()}
        idle, busy = spent.pop("idle"), spent.pop("busy")
        return Ingested(
            len(urls),
            moments[-1].seconds,
            moments,
            spent,
            others=max(0.0, busy - sum(spent.values())),
            idle=idle,
        )

    def submit(self, urls: Sequence[str], collection: str) -> str:
        """The id of the job."""
        lines = "".join(json.dumps({"url": url}) + "\n" for url in urls)
        headers = {"Content-Type": "application/x-ndjson"}
        submitted = self._client.post(collection_path(collection, "/jobs"), data=lines, headers=headers)
        return str(submitted["id"])

    def states(self, job: str) -> Iterator[dict[str, Any]]:
        """The job as it goes, up to its end. Raises IngestError where an item failed."""
        while True:
            state = self._client.poll(job_path(job))
            yield state
            if state["state"] in ENDED:
                break
            time.sleep(_POLL_SECONDS)
        if state["indexed"] != state["total"]:
            raise IngestError(f"{state['indexed']} of {state['total']} were indexed: {state['failures']}")

    def _usage(self, server: ImageServer) -> dict[str, float]:
        """CPU seconds so far: of each kind of process, of the whole machine (`busy`), and of nobody (`idle`)."""
        machine = psutil.cpu_times()._asdict()
        idle = machine["idle"] + machine["iowait"]
        guests = machine["guest"] + machine["guest_nice"]  # in user and nice already
        seconds = defaultdict(
            float,
            {
                "idle": idle,
                "busy": sum(machine.values()) - idle - guests,
                "this bench": time.process_time(),
                "image server": server.cpu_seconds(),
            },
        )
        for process in (self.root, *self.root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                seconds[_role(process)] += cpu_seconds(process)
        return dict(seconds)

    def worker(self) -> psutil.Process:
        """The ingest worker."""
        return next(p for p in self.root.children(recursive=True) if _role(p) == "ingest worker")


@contextmanager
def lookalike(context: Context, changes: dict[str, str]) -> Iterator[Stack]:
    """A fresh stack whose processes find `changes` in their environment, stopped with the block."""
    folder = Path(tempfile.mkdtemp(dir=context.scratch, prefix="stack-"))
    ours = set(psutil.Process().children())
    with environment(changes), running(folder, free_port(0), context.console) as started:
        started.wait_until_ready()
        [root] = [p for p in psutil.Process().children() if p not in ours and _role(p) == "supervisor"]
        yield Stack(started.url, root)


def _role(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((role for word, role in _ROLES.items() if word in line), process.name())


def done(job: dict[str, Any]) -> int:
    return int(job["indexed"] + job["unchanged"] + job["failed"])

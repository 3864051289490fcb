"""Waiting for jobs: a bar on a terminal, a line now and then elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, track

from cli.client import Client, job_path

Job = dict[str, Any]
T = TypeVar("T")

ENDED = frozenset({"done", "cancelled"})
_POLL_SECONDS = 0.5
_LINE_SECONDS = 5.0


def watched(rows: Iterable[T], words: str, total: int | None) -> Iterable[T]:
    """`rows` as they pass, under a bar on a terminal."""
    console = Console(stderr=True)
    return track(rows, words, total=total, console=console, transient=True, disable=not console.is_terminal)


def wait(client: Client, ids: Sequence[str]) -> list[Job]:
    """Show the jobs' progress until all have ended; their last states, in the order of `ids`."""
    console = Console(stderr=True)
    progress = _states(client, ids)
    return _with_bar(console, progress) if console.is_terminal else _with_lines(progress)


def _states(client: Client, ids: Sequence[str]) -> Iterator[list[Job]]:
    jobs: dict[str, Job] = {}
    while True:
        for job in ids:
            if job not in jobs or jobs[job]["state"] not in ENDED:
                jobs[job] = client.poll(job_path(job))
        yield list(jobs.values())
        if all(job["state"] in ENDED for job in jobs.values()):
            return
        time.sleep(_POLL_SECONDS)


def _with_bar(console: Console, progress: Iterator[list[Job]]) -> list[Job]:
    jobs: list[Job] = []
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        for jobs in progress:
            bar.update(task, total=_total(jobs), completed=_done(jobs), description=_sentence(jobs))
    return jobs


def _with_lines(progress: Iterator[list[Job]]) -> list[Job]:
    jobs: list[Job] = []
    next_line = time.monotonic() + _LINE_SECONDS
    for jobs in progress:
        if time.monotonic() >= next_line:
            click.echo(_sentence(jobs), err=True)
            next_line = time.monotonic() + _LINE_SECONDS
    return jobs


def _done(jobs: Sequence[Job]) -> int:
    return sum(job["indexed"] + job["unchanged"] + job["failed"] for job in jobs)


def _total(jobs: Sequence[Job]) -> int | None:
    if any(job["total"] is None for job in jobs):
        return None
    return sum(job["total"] for job in jobs)


def _sentence(jobs: Sequence[Job]) -> str:
    """`1,024 of 10,000 done, 3 failed, 120 images/s, 0:01:15 left`."""
    total = _total(jobs)
    running = [job for job in jobs if job["state"] not in ENDED]
    speed = sum(job["images_per_second"] or 0 for job in running)
    left = max((job["eta_seconds"] or 0 for job in running), default=0)
    return ", ".join(
        [
            f"{_done(jobs):,} of {'?' if total is None else f'{total:,}'} done",
            f"{sum(job['failed'] for job in jobs):,} failed",
            *([f"{speed:,.0f} images/s"] if speed else []),
            *([f"{timedelta(seconds=round(left))} left"] if left else []),
        ]
    )

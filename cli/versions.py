"""The versions of a collection, through the API: see them, make one, fill it from another, put it live."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, TypeVar

import click

from cli.client import Client, collection_path, version_key
from cli.errors import Problem
from cli.ingest import print_summary, wait_or_leave
from cli.progress import ENDED, Job

Version = dict[str, Any]
T = TypeVar("T")

_LOADING_SECONDS = 1800.0  # a large model from a slow hub
_PAUSE_SECONDS = 5.0
_MOST_ROUNDS = 20


class Versions:
    """Each step may be taken again, and waits for workers that restart. It raises Problem where the API refuses."""

    def __init__(self, client: Client, collection: str) -> None:
        self._client = client
        self._collection = collection

    def all(self) -> list[Version]:
        """Oldest first."""
        versions: list[Version] = self._get("/versions")["versions"]
        return versions

    def live(self) -> Version:
        """The version that answers to the plain name."""
        return next(version for version in self.all() if version["live"])

    def numbered(self, number: int) -> Version:
        """The version of that number."""
        for version in self.all():
            if version["version"] == number:
                return version
        raise click.ClickException(
            f"{self._collection} has no version {number}; `lookalike collections {self._collection} --versions` lists "
            "those that it has."
        )

    def under(self, model: str, *, new: bool) -> Version:
        """The newest version under the model, made where there is none, or, with `new`, in any case."""
        known = [version["version"] for version in self.all()] if new else []
        return _patiently(lambda: self._find_or_make(model, known))

    def comparison(self, version: Version, sample: int) -> dict[str, Any]:
        """How alike it and the live one answer."""
        found: dict[str, Any] = self._get(f"/versions/{version['version']}/comparison", sample=sample)
        return found

    def copy(self, target: Version, origin: Version | None = None) -> Job:
        """Bring what `target` lacks of `origin`, by default the live one: a job, to its end.

        The one that an earlier run left at work ends before it.
        """
        for job in self._copies_at_work(target):
            self._ended(job)
        body = {"from": origin["version"]} if origin else {}
        path = self._path(f"/versions/{target['version']}/copies")
        job = _patiently(lambda: self._client.post(path, json=body))
        ended = self._ended(job["id"])
        if ended["total"]:
            with redirect_stdout(sys.stderr):  # stdout is for what a command was asked for
                print_summary([ended])
        return ended

    def fill(self, target: Version) -> int:
        """Copy from the live one until a round has no less to do than the one before; how many images it could not."""
        total = None
        for _ in range(_MOST_ROUNDS):
            job = self.copy(target)
            if job["failed"] == job["total"] or (total is not None and job["total"] >= total):
                break
            total = job["total"]
        return int(job["failed"])

    def go_live(self, number: int) -> int:
        """Swap, and bring over what came to the one before; how many images could not be."""
        before = self.live()
        if before["version"] == number:
            return self.catch_up(before)
        path = self._path(f"/versions/{number}/live")
        live = _patiently(lambda: self._client.post(path))
        click.echo(f"{self._collection} is at version {number}, under {live['model']}.", err=True)
        return self._catch_up(live, [before])

    def catch_up(self, live: Version) -> int:
        """Bring over what the others have newer, as after a swap that was broken off; how many images could not be."""
        others = [version for version in self.all() if version["version"] != live["version"]]
        return self._catch_up(live, others[::-1])

    def _catch_up(self, live: Version, others: list[Version]) -> int:
        failed = 0
        for other in others:
            failed += self.copy(live, other)["failed"]
            self._say_how_to_go_back(other)
        if failed:
            click.echo(f"{spelt(failed)} could not be copied; mend what failed and run this again.", err=True)
        return failed

    def _find_or_make(self, model: str, known: list[int]) -> Version:
        """One that is not among those `known`: it may have been made although nobody answered."""
        under = [
            version for version in self.all() if version["model"] == model and version["version"] not in known
        ]
        if under:
            return under[-1]
        made: Version = self._client.post(self._path("/versions"), json={"model": model})
        click.echo(f"Made version {made['version']} of {self._collection} under {made['model']}.", err=True)
        return made

    def _ended(self, id: str) -> Job:
        job = wait_or_leave(self._client, [id])[0]
        if job["state"] == "cancelled":
            raise click.ClickException(
                f"Job {id}, which copies, was cancelled: {job.get('last_error') or 'by a request'}. "
                "Run this again to go on."
            )
        return job

    def _copies_at_work(self, target: Version) -> list[str]:
        key = version_key(target)
        newest = self._client.poll("/v1/jobs", limit=1000)["jobs"]
        return [job["id"] for job in newest if job["collection"] == key and job["state"] not in ENDED]

    def _say_how_to_go_back(self, other: Version) -> None:
        number = other["version"]
        click.echo(
            f"Version {number}, under {other['model']}, is kept.\n"
            f"  To go back to it:  lookalike collections {self._collection} --live {number}\n"
            f"  To drop it:        lookalike collections {self._collection} --drop {number}",
            err=True,
        )

    def _get(self, below: str, **params: Any) -> Any:
        return self._client.poll(self._path(below), **params)

    def _path(self, below: str) -> str:
        return collection_path(self._collection, below)


def spelt(images: int) -> str:
    """`1 image`, `2,000 images`."""
    return f"{images:,} image{'s' if images != 1 else ''}"


def _patiently(step: Callable[[], T]) -> T:
    """What a step gives, once workers answer and have loaded the model that it needs."""
    deadline = time.monotonic() + _LOADING_SECONDS
    while True:
        try:
            return step()
        except Problem as problem:
            if problem.code != "workers_unavailable" or time.monotonic() > deadline:
                raise
            click.echo(f"{problem.message} Waiting.", err=True)
        time.sleep(_PAUSE_SECONDS)

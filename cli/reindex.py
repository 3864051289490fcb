"""`lookalike reindex`: bring a collection under another model while it is searched and filled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli.client import Client, collection_path
from cli.errors import Problem
from cli.ingest import print_summary, wait_or_leave
from cli.progress import ENDED, Job
from cli.tables import print_json, print_table
from shared.settings import Settings

Version = dict[str, Any]
T = TypeVar("T")

_MOST_ROUNDS = 20
_LOADING_SECONDS = 1800.0  # a large model from a slow hub
_PAUSE_SECONDS = 5.0


@click.command()
@click.argument("collection")
@click.option("--model", required=True, help="The model to bring it under: a hub id, or a folder.")
@click.option(
    "--sample",
    type=click.IntRange(1, 500),
    default=100,
    show_default=True,
    help="Images by which both are compared.",
)
@click.option("--allow-missing", is_flag=True, help="Swap even where images could not be copied.")
@click.option("--no-swap", is_flag=True, help="Copy and compare, and leave the swap to a later run.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as the API gives it.")
@click.pass_obj
def reindex(
    settings: Settings,
    collection: str,
    model: str,
    sample: int,
    allow_missing: bool,
    no_swap: bool,
    as_json: bool,
) -> None:
    """Build a version of a collection under another model, compare it with the live one and put it live.

    Searches and submissions go on all the while. Broken off at any point, run it again: it goes on where it was.
    """
    run = Reindexing(Client(settings), collection)
    live, target = run.live(), run.version_under(model)
    if live["version"] == target["version"]:
        run.say(f"{collection} is under {model} already, at version {live['version']}.")
        run.catch_up()
        return
    missing = run.fill(target)
    run.show_comparison(target, sample, as_json)
    if missing and not allow_missing:
        run.say(
            f"{missing:,} images could not be copied, so version {target['version']} is not put live. Mend what "
            "failed and run this again, or run it with --allow-missing to do without them."
        )
        raise click.exceptions.Exit(1)
    if not no_swap:
        run.go_live(target, live)


class Reindexing:
    """The steps, each of which may be taken again. Every one raises Problem where the API refuses."""

    def __init__(self, client: Client, collection: str) -> None:
        self._client = client
        self._collection = collection

    def live(self) -> Version:
        """The version that answers to the plain name."""
        return next(version for version in self._versions() if version["live"])

    def version_under(self, model: str) -> Version:
        """The newest version under the model, made where there is none."""
        return self._patiently(lambda: self._find_or_make(model))

    def _find_or_make(self, model: str) -> Version:
        under = [version for version in self._versions() if version["model"] == model]
        if under:
            return under[-1]
        made: Version = self._client.post(self._path("/versions"), json={"model": model})
        self.say(f"Made version {made['version']} of {self._collection} under {made['model']}.")
        return made

    def fill(self, target: Version) -> int:
        """Copy until a round has no less to do than the one before; how many images could not be copied."""
        total = None
        for _ in range(_MOST_ROUNDS):
            job = self._copy(target)
            if job["failed"] == job["total"] or (total is not None and job["total"] >= total):
                break
            total = job["total"]
        return int(job["failed"])

    def show_comparison(self, target: Version, sample: int, as_json: bool) -> None:
        """How alike both answer."""
        path = self._path(f"/versions/{target['version']}/comparison")
        found = self._client.get(path, sample=sample)
        if as_json:
            print_json(found)
            return
        print_table(
            ("", f"version {found['live']} (live)", f"version {found['version']}"),
            [("images", found["images"]["live"], found["images"]["version"])],
        )
        if found["sampled"]:
            click.echo(
                f"Asked for the ten nearest of {found['sampled']:,} images, both agree on {found['overlap']:.0%} of "
                f"them, and on the nearest one for {found['same_first']:.0%} of the images."
            )

    def go_live(self, target: Version, before: Version) -> None:
        """Swap, bring over what came meanwhile, and say how to go back."""
        self._patiently(lambda: self._client.post(self._path(f"/versions/{target['version']}/live")))
        self.say(f"{self._collection} is at version {target['version']}, under {target['model']}.")
        self._copy(target, {"from": before["version"]})
        self._say_how_to_go_back(before)

    def catch_up(self) -> None:
        """What a run that was broken off after its swap had still to do."""
        live = self.live()
        others = [version for version in self._versions() if not version["live"]]
        if others:
            before = max(
                others, key=lambda version: (version["version"] < live["version"], version["version"])
            )
            self._copy(live, {"from": before["version"]})
            self._say_how_to_go_back(before)

    def say(self, words: str) -> None:
        click.echo(words, err=True)

    def _patiently(self, step: Callable[[], T]) -> T:
        """What a step gives, once the workers have loaded the model that it needs."""
        deadline = time.monotonic() + _LOADING_SECONDS
        while True:
            try:
                return step()
            except Problem as problem:
                if problem.code != "workers_unavailable" or time.monotonic() > deadline:
                    raise
                self.say(f"{problem.message} Waiting.")
            time.sleep(_PAUSE_SECONDS)

    def _copy(self, target: Version, body: dict[str, Any] | None = None) -> Job:
        """One round, to its end; first the one that an earlier run left at work."""
        for job in self._copies_at_work(target):
            self._ended(job)
        job = self._client.post(self._path(f"/versions/{target['version']}/copies"), json=body or {})
        ended = self._ended(job["id"])
        if ended["total"]:
            print_summary([ended])
        return ended

    def _ended(self, id: str) -> Job:
        job = wait_or_leave(self._client, [id])[0]
        if job["state"] == "cancelled":
            raise click.ClickException(
                f"Job {id}, which copies, was cancelled: {job.get('last_error') or 'by a request'}. "
                "Run this again to go on."
            )
        return job

    def _copies_at_work(self, target: Version) -> list[str]:
        key = f"{self._collection}@{target['version']}"
        newest = self._client.get("/v1/jobs", limit=1000)["jobs"]
        return [job["id"] for job in newest if job["collection"] == key and job["state"] not in ENDED]

    def _say_how_to_go_back(self, before: Version) -> None:
        number = before["version"]
        self.say(
            f"Version {number}, under {before['model']}, is kept.\n"
            f"  To go back to it:  lookalike collections {self._collection} --live {number}\n"
            f"  To drop it:        lookalike collections {self._collection} --drop {number}"
        )

    def _versions(self) -> list[Version]:
        versions: list[Version] = self._client.get(self._path("/versions"))["versions"]
        return versions

    def _path(self, below: str) -> str:
        return collection_path(self._collection, below)

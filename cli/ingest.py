"""`lookalike ingest`: submit images, wait for their jobs, say how it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from cli.client import Client
from cli.errors import ItemsFailed
from cli.feed import reading, reading_options
from cli.progress import Job, wait
from cli.sources import Submission, submissions
from cli.tables import print_json, print_table
from shared.settings import Settings


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE…")
@click.option("--collection", default="images", show_default=True, help="Where the images belong.")
@click.option(
    "--dataset", metavar="NAME", help="A data set of the Hugging Face hub, such as marmal88/skin_cancer."
)
@reading_options
@click.option("--no-wait", is_flag=True, help="Leave once the jobs are accepted.")
@click.option("--json", "as_json", is_flag=True, help="Print each job as a line of JSON.")
@click.pass_obj
def ingest(
    settings: Settings,
    sources: tuple[str, ...],
    collection: str,
    dataset: str | None,
    no_wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Index images: image files, folders of them, image URLs, or feeds that name them, as files or URLs: CSV, TSV,
    Parquet, JSON, NDJSON, or tar files of samples.
    """
    if not sources and not dataset:
        raise click.UsageError("What is to be indexed? Give a SOURCE, or --dataset.")
    requests = submissions(sources, dataset, reading(**options))
    client = Client(settings)
    jobs = [_submit(client, request, collection) for request in requests]
    if not no_wait:
        jobs = wait_or_leave(client, [job["id"] for job in jobs])
    if as_json:
        for job in jobs:
            print_json(job)
    elif not no_wait:
        print_summary(jobs)
    if not no_wait:
        exit_as_it_went(jobs)


def _submit(client: Client, request: Submission, collection: str) -> Job:
    job: Job = request.submit(client, collection)
    click.echo(f"{request.label} → job {job['id']}", err=True)
    return job


def wait_or_leave(client: Client, ids: Sequence[str]) -> list[Job]:
    """Wait for the jobs; Ctrl-C ends the waiting and not the jobs."""
    try:
        return wait(client, ids)
    except KeyboardInterrupt:
        click.echo("\nThe work goes on without us. To see it:", err=True)
        for job in ids:
            click.echo(f"  lookalike jobs {job} --watch", err=True)
        raise click.exceptions.Exit(130) from None


def print_summary(jobs: Sequence[Job]) -> None:
    """How the jobs ended, together; what failed by its code, and where to see each row."""
    indexed, unchanged, failed = (
        sum(job[count] for job in jobs) for count in ("indexed", "unchanged", "failed")
    )
    click.echo(f"{indexed:,} indexed, {unchanged:,} unchanged, {failed:,} failed")
    for job in jobs:
        if job["state"] == "cancelled":
            click.echo(f"Cancelled before its end. {job.get('last_error') or ''}".rstrip())
        if sync := job.get("sync"):
            click.echo(_synced(job["removed"], sync))
    if failed:
        codes: Counter[str] = Counter()
        for job in jobs:
            codes.update(job["failures"])
        print_table(("code", "images"), codes.most_common())
        for job in jobs:
            if job["failed"]:
                click.echo(f"See each: lookalike jobs {job['id']} --failures")


def _synced(removed: int, sync: dict[str, Any]) -> str:
    """What became of the images that were no longer in the feed."""
    if sync["refused"]:
        return f"Nothing removed: {sync['refused']}"
    return f"{removed:,} removed, which the feed no longer names"


def exit_as_it_went(jobs: Sequence[Job]) -> None:
    """Raises ItemsFailed unless everything that was submitted is indexed, and what was to be removed is."""
    refused = any((job.get("sync") or {}).get("refused") for job in jobs)
    if refused or any(job["failed"] or job["state"] == "cancelled" for job in jobs):
        raise ItemsFailed

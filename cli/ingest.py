"""`lookalike ingest`: submit images, wait for their jobs, say how it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from cli.client import Client
from cli.errors import ItemsFailed
from cli.progress import Job, wait
from cli.sources import Submission, submissions
from cli.tables import print_json, print_table
from shared.settings import Settings


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…")
@click.option("--collection", default="images", show_default=True, help="Where the images belong.")
@click.option("--url-column", help="The CSV's column of image URLs.  [default: url]")
@click.option("--id-column", help="The CSV's column of ids.  [default: id]")
@click.option("--separator", help="What stands between several URLs in one cell of the CSV, such as '|'.")
@click.option("--no-wait", is_flag=True, help="Leave once the jobs are accepted.")
@click.option("--json", "as_json", is_flag=True, help="Print each job as a line of JSON.")
@click.pass_obj
def ingest(
    settings: Settings,
    sources: tuple[str, ...],
    collection: str,
    url_column: str | None,
    id_column: str | None,
    separator: str | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Index images: a CSV, NDJSON or JSON file of items, image files, folders of them, or image URLs."""
    columns = {"url_column": url_column, "id_column": id_column, "separator": separator}
    requests = submissions(sources, {name: value for name, value in columns.items() if value is not None})
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
    if any(job["state"] == "cancelled" for job in jobs):
        click.echo("Cancelled before its end.")
    if failed:
        codes: Counter[str] = Counter()
        for job in jobs:
            codes.update(job["failures"])
        print_table(("code", "images"), codes.most_common())
        for job in jobs:
            if job["failed"]:
                click.echo(f"See each: lookalike jobs {job['id']} --failures")


def exit_as_it_went(jobs: Sequence[Job]) -> None:
    """Raises ItemsFailed unless everything that was submitted is indexed."""
    if any(job["failed"] or job["state"] == "cancelled" for job in jobs):
        raise ItemsFailed

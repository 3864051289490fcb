"""`lookalike jobs`: see, follow and cancel what was submitted."""

from __future__ import annotations

from typing import Any

import click

from cli.client import Client, job_path
from cli.ingest import exit_as_it_went, print_summary, wait_or_leave
from cli.tables import print_json, print_table
from shared.settings import Settings

_COUNTS = ("total", "indexed", "unchanged", "failed", "pending")


@click.command()
@click.argument("job", metavar="[ID]", required=False)
@click.option("--watch", is_flag=True, help="Wait for the job's end.")
@click.option("--failures", is_flag=True, help="List the items that failed, and why.")
@click.option("--cancel", is_flag=True, help="What is not started is never done.")
@click.option("--retry", is_flag=True, help="Submit what failed as a new job.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
@click.pass_obj
def jobs(
    settings: Settings,
    job: str | None,
    watch: bool,
    failures: bool,
    cancel: bool,
    retry: bool,
    as_json: bool,
) -> None:
    """List the newest jobs, or show one."""
    if watch + failures + cancel + retry > 1:
        raise click.UsageError("Give one of --watch, --failures, --cancel and --retry.")
    client = Client(settings)
    if job is None:
        if watch or failures or cancel or retry:
            raise click.UsageError("Which job? Its ID is missing; `lookalike jobs` lists them.")
        _list(client, as_json)
        return
    if watch:
        _watch(client, job, as_json)
    elif failures:
        _list_failures(client, job, as_json)
    elif cancel:
        client.delete(job_path(job))
        click.echo(f"Job {job} is cancelled.", err=True)
    elif retry:
        again = client.post(job_path(job, "/retry"))["id"]
        click.echo(f"What failed of {job} → job {again}", err=True)
        _watch(client, again, as_json)
    else:
        _show(client.get(job_path(job)), as_json)


def _list(client: Client, as_json: bool) -> None:
    answer = client.get("/v1/jobs")
    if as_json:
        print_json(answer)
        return
    columns = ("id", "collection", "state", *_COUNTS, "created_at")
    print_table(columns, ([job.get(column) for column in columns] for job in answer["jobs"]))


def _show(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    fields = ("id", "collection", "state", *_COUNTS, "images_per_second", "created_at", "finished_at")
    print_table(("job", job["id"]), ([field, job.get(field)] for field in fields if field != "id"))
    for code, count in job["failures"].items():
        click.echo(f"  {code}: {count:,}")


def _watch(client: Client, job: str, as_json: bool) -> None:
    client.get(job_path(job))  # an unknown id, or no server at all, is said at once
    ended = wait_or_leave(client, [job])
    if as_json:
        print_json(ended[0])
    else:
        print_summary(ended)
    exit_as_it_went(ended)


def _list_failures(client: Client, job: str, as_json: bool) -> None:
    rows = client.pages(job_path(job, "/failures"), "failures")
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ("id", "url", "code", "detail", "attempts")
    print_table(columns, ([row.get(column) for column in columns] for row in rows))

"""`lookalike export` and `lookalike import`: a collection to a folder, and back without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from cli.client import Client, collection_path
from cli.ingest import exit_as_it_went, print_summary, wait_or_leave
from cli.study import archive
from cli.study.options import some_images
from cli.tables import print_json
from shared.settings import Settings

_BYTES_A_JOB = 16 * 2**20  # they wait in the broker's memory, so the next job is sent when one has ended


@click.command()
@click.argument("collection")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@some_images
@click.option("--json", "as_json", is_flag=True, help="Print what collection.json holds.")
@click.pass_obj
def export(settings: Settings, collection: str, folder: Path, condition: str | None, as_json: bool) -> None:
    """Write a collection to FOLDER: ids, URLs, payloads and vectors, bit for bit.

    images.parquet holds all of it; vectors.npy has the vectors in the order of the lines of ids.txt; collection.json
    names the model.
    """
    count = archive.write(Client(settings), collection, folder, condition)
    if as_json:
        print_json(archive.about(folder))
    else:
        click.echo(f"{count:,} images of {collection} are written to {folder}.")


@click.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--collection", help="Where the images belong.  [default: the name they were exported under]")
@click.option("--json", "as_json", is_flag=True, help="Print each job as a line of JSON.")
@click.pass_obj
def import_(settings: Settings, folder: Path, collection: str | None, as_json: bool) -> None:
    """Bring an exported FOLDER back. Its vectors are taken as they are: no picture is fetched, no model runs.

    The collection must stand under the model that made the vectors, or not at all: then it is made. Ids that stand
    already are replaced. What was cut short is taken up by the same command.
    """
    about = archive.about(folder)
    name = collection or about["name"]
    client = Client(settings)
    client.put(collection_path(name), {"model": about["model"], "indexes": about["indexes"]})
    jobs = []
    for body in _bodies(archive.items(folder)):
        job = client.post(
            collection_path(name, "/jobs"), data=body, headers={"Content-Type": "application/x-ndjson"}
        )
        click.echo(f"{folder} → job {job['id']}", err=True)
        jobs += wait_or_leave(client, [job["id"]])
    if as_json:
        for job in jobs:
            print_json(job)
    else:
        print_summary(jobs)
    exit_as_it_went(jobs)


def _bodies(items: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The items as NDJSON, in pieces that are a job each."""
    body = bytearray()
    for item in items:
        body += json.dumps(item, ensure_ascii=False).encode() + b"\n"
        if len(body) >= _BYTES_A_JOB:
            yield bytes(body)
            body.clear()
    if body:
        yield bytes(body)

"""`lookalike report`: what is wrong with a collection's pictures, item by item and product by product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from cli import catalogue
from cli.catalogue import COLUMNS, FLAGS, Row
from cli.client import Client, collection_path, job_path, version_key
from cli.progress import watched
from cli.tables import print_json, print_table, write_csv
from shared.settings import Settings


@click.command()
@click.argument("collection")
@click.option("--job", "jobs", multiple=True, help="A job whose failures count too; may be given again.")
@click.option("--group", default="group", show_default=True, help="The payload field that names the product.")
@click.option(
    "--min-side",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Pixels; a picture with a shorter side is too small.",
)
@click.option(
    "--csv", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write each row to a CSV."
)
@click.option("--json", "as_json", is_flag=True, help="Print each row as a line of JSON.")
@click.pass_obj
def report(
    settings: Settings,
    collection: str,
    jobs: tuple[str, ...],
    group: str,
    min_side: int,
    file: Path | None,
    as_json: bool,
) -> None:
    """List pictures that are missing, broken, too small, twice there, or placeholders.

    What is missing or broken never came into the collection: name the job that failed to bring it with --job. Only
    items and products that something is wrong with get a row; a product's row counts its items.
    """
    client = Client(settings)
    about = client.get(collection_path(collection))
    pages = client.pages(collection_path(version_key(about), "/images"), "images")
    failures = chain.from_iterable(client.pages(job_path(job, "/failures"), "failures") for job in jobs)
    items = catalogue.items(
        watched(pages, f"Reading {collection}", about["images"]), failures, group, min_side
    )
    products = list(catalogue.products(items))
    flawed = [row for row in (*items, *products) if row.flawed]
    if file:
        write_csv(file, COLUMNS, ([getattr(row, column) for column in COLUMNS] for row in flawed))
        click.echo(f"Written to {file}: {len(flawed):,} rows", err=True)
    if as_json:
        for row in flawed:
            print_json(asdict(row))
    else:
        _show(items, products, bool(jobs))


def _show(items: Sequence[Row], products: Sequence[Row], with_jobs: bool) -> None:
    counts = [[sum(bool(getattr(row, flag)) for row in rows) for rows in (items, products)] for flag in FLAGS]
    lines = [[flag.replace("_", " "), *count] for flag, count in zip(FLAGS, counts, strict=True)]
    print_table(("", "items", "products"), [*lines, ["all", len(items), len(products)]])
    if not with_jobs:
        click.echo("What no job could bring is not in it; name jobs with --job.", err=True)

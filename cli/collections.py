"""`lookalike collections`: see and delete sets of images, and go from one version of a set to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.client import Client, collection_path
from cli.errors import ItemsFailed
from cli.tables import print_json, print_table
from cli.versions import Versions, spelt
from shared.settings import Settings

_COLUMNS = ("name", "images", "model", "dimension", "distance")


@click.command()
@click.argument("name", required=False)
@click.option("--delete", is_flag=True, help="Delete the collection and every image in it.")
@click.option("--versions", is_flag=True, help="List the collection's versions.")
@click.option(
    "--live",
    type=click.IntRange(1),
    metavar="N",
    help="Fill version N from the live one, put it live, and copy into it what came to the other meanwhile.",
)
@click.option("--drop", type=click.IntRange(1), metavar="N", help="Drop version N, which is not live.")
@click.option("--yes", is_flag=True, help="Delete, drop or put live without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
@click.pass_obj
def collections(
    settings: Settings,
    name: str | None,
    delete: bool,
    versions: bool,
    live: int | None,
    drop: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """List the collections, or show one."""
    asked = sum((delete, versions, live is not None, drop is not None))
    if asked > 1:
        raise click.UsageError("Give one of --delete, --versions, --live and --drop.")
    if asked and name is None:
        raise click.UsageError("Which collection? Its NAME is missing; `lookalike collections` lists them.")
    client = Client(settings)
    if name and delete:
        _delete(client, name, yes)
    elif name and live:
        _go_live(Versions(client, name), live, yes)
    elif name and drop:
        _drop(client, name, drop, yes)
    elif name and versions:
        answer = client.get(collection_path(name, "/versions"))
        print_json(answer) if as_json else _show_versions(answer["versions"])
    elif name is None:
        answer = client.get("/v1/collections")
        print_json(answer) if as_json else _show(answer["collections"])
    else:
        answer = client.get(collection_path(name))
        print_json(answer) if as_json else _show([answer])


def _delete(client: Client, name: str, yes: bool) -> None:
    images = client.get(collection_path(name))["images"]
    if not yes:
        click.confirm(f"Delete {name} and its {images:,} images?", abort=True, err=True)
    client.delete(collection_path(name))
    click.echo(f"{name} is deleted, with its {images:,} images.", err=True)


def _go_live(versions: Versions, number: int, yes: bool) -> None:
    target = versions.numbered(number)
    missing = 0 if target["live"] else versions.fill(target)
    if missing and not yes:
        click.confirm(
            f"{spelt(missing)} could not be copied. Put version {number} live without?", abort=True, err=True
        )
    if versions.go_live(number):
        raise ItemsFailed


def _drop(client: Client, name: str, version: int, yes: bool) -> None:
    if not yes:
        click.confirm(f"Drop version {version} of {name}?", abort=True, err=True)
    client.delete(collection_path(name, f"/versions/{version}"))
    click.echo(f"Version {version} of {name} is dropped.", err=True)


def _show_versions(rows: Sequence[dict[str, Any]]) -> None:
    columns = ("images", "model", "dimension")
    print_table(
        ("version", *columns, ""),
        ([row["version"], *map(row.get, columns), "live" if row["live"] else ""] for row in rows),
    )


def _show(rows: Sequence[dict[str, Any]]) -> None:
    print_table(
        [*_COLUMNS, "indexes"], ([*(row.get(column) for column in _COLUMNS), _indexes(row)] for row in rows)
    )


def _indexes(row: dict[str, Any]) -> str:
    return " ".join(f"{field}:{kind}" for field, kind in row["indexes"].items())

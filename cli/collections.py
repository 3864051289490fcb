"""`lookalike collections`: see and delete sets of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.client import Client, collection_path
from cli.tables import print_json, print_table
from shared.settings import Settings

_COLUMNS = ("name", "images", "model", "dimension", "distance")


@click.command()
@click.argument("name", required=False)
@click.option("--delete", is_flag=True, help="Delete the collection and every image in it.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
@click.pass_obj
def collections(settings: Settings, name: str | None, delete: bool, yes: bool, as_json: bool) -> None:
    """List the collections, or show one."""
    client = Client(settings)
    if delete:
        _delete(client, name, yes)
    elif name is None:
        answer = client.get("/v1/collections")
        print_json(answer) if as_json else _show(answer["collections"])
    else:
        answer = client.get(collection_path(name))
        print_json(answer) if as_json else _show([answer])


def _delete(client: Client, name: str | None, yes: bool) -> None:
    if name is None:
        raise click.UsageError("Which collection? Its NAME is missing; `lookalike collections` lists them.")
    images = client.get(collection_path(name))["images"]
    if not yes:
        click.confirm(f"Delete {name} and its {images:,} images?", abort=True, err=True)
    client.delete(collection_path(name))
    click.echo(f"{name} is deleted, with its {images:,} images.", err=True)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    print_table(
        [*_COLUMNS, "indexes"], ([*(row.get(column) for column in _COLUMNS), _indexes(row)] for row in rows)
    )


def _indexes(row: dict[str, Any]) -> str:
    return " ".join(f"{field}:{kind}" for field, kind in row["indexes"].items())

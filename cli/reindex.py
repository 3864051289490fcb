"""`lookalike reindex`: bring a collection under another model while it is searched and filled."""

from __future__ import annotations

from typing import Any

import click

from cli.client import Client
from cli.errors import ItemsFailed
from cli.tables import print_json, print_table
from cli.versions import Versions, spelt
from shared.settings import Settings


@click.command()
@click.argument("collection")
@click.option("--model", required=True, help="The model to bring it under: a hub id, or a folder.")
@click.option(
    "--new",
    is_flag=True,
    help="Make a version though one stands under that name: the model has other weights now. To go on with it after "
    "it was broken off, leave this out.",
)
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
    new: bool,
    sample: int,
    allow_missing: bool,
    no_swap: bool,
    as_json: bool,
) -> None:
    """Build a version of a collection under another model, compare it with the live one and put it live.

    Searches and submissions go on all the while. Broken off at any point, run it again: it goes on where it was.
    """
    versions = Versions(Client(settings), collection)
    live, target = versions.live(), versions.under(model, new=new)
    if live["version"] == target["version"]:
        click.echo(
            f"{collection} is under {model} already, at version {live['version']}. To bring it under other weights "
            "of that name, run this with --new.",
            err=True,
        )
        missing = versions.catch_up(live)
    else:
        missing = versions.fill(target)
        _show_comparison(versions.comparison(target, sample), as_json)
        if missing and not allow_missing:
            click.echo(
                f"{spelt(missing)} could not be copied, so version {target['version']} is not put live. Mend what "
                "failed and run this again, or run it with --allow-missing to do without.",
                err=True,
            )
        elif not no_swap:
            missing = versions.go_live(target["version"])
    if missing and not allow_missing:
        raise ItemsFailed


def _show_comparison(found: dict[str, Any], as_json: bool) -> None:
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

"""`lookalike search`: the most alike images of a collection."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from cli.client import Client, collection_path
from cli.errors import Problem
from cli.question import read_condition, read_crop, read_exclusions
from cli.sources import is_url
from cli.tables import print_json, print_table, short
from shared.settings import Settings

_POLL_SECONDS = 0.3
_COLUMNS = ("score", "id", "url", "payload")
_UNSET: tuple[Any, ...] = (None, (), {})  # options that nobody gave


@click.command()
@click.argument("pictures", metavar="[IMAGE…|URL|ID]", nargs=-1)
@click.option("--collection", default="images", show_default=True, help="Where to search.")
@click.option("--text", help="Words, alone or beside a picture, where the model reads them.")
@click.option("--like", multiple=True, metavar="URL|ID", help="More like this one. May be repeated.")
@click.option("--unlike", multiple=True, metavar="URL|ID", help="With --like: less like this one.")
@click.option(
    "--crop",
    callback=read_crop,
    metavar="LEFT,TOP,RIGHT,BOTTOM",
    help="The part of the picture to search by, in fractions of it, such as 0.1,0.2,0.6,0.9.",
)
@click.option(
    "--filter", callback=read_condition, metavar="JSON", help="Qdrant's filter, such as '{\"must\": […]}'."
)
@click.option(
    "--exclude",
    callback=read_exclusions,
    multiple=True,
    metavar="FIELD=VALUE",
    help="No hit has this value there. May be repeated.",
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="Most hits, or groups."
)
@click.option(
    "--offset", type=click.IntRange(0), default=0, show_default=True, help="Hits, or groups, to skip."
)
@click.option("--score-threshold", type=float, help="Least score of a hit.")
@click.option("--group-by", metavar="FIELD", help="One group of hits for each value of a payload field.")
@click.option("--group-size", type=click.IntRange(1, 100), help="Most hits of each group.  [default: 1]")
@click.option("--exact", is_flag=True, default=None, help="Compare with every image.")
@click.option(
    "--no-placeholders",
    "placeholders",
    flag_value=False,
    default=None,
    help="Leave out pictures that stand under many products.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
@click.pass_obj
def search(
    settings: Settings, pictures: Sequence[str], collection: str, as_json: bool, **options: Any
) -> None:
    """Search by picture: one or several files, an image URL, or the id of an image that is indexed.

    Or by words (--text), or by examples (--like, --unlike).
    """
    given = {name: value for name, value in options.items() if value not in _UNSET}
    if not (pictures or "text" in given or "like" in given):
        raise click.UsageError("Say what to search by: a picture, --text or --like.")
    client = Client(settings)
    result = _finished(client, _ask(client, collection, pictures, given))
    if as_json:
        print_json(result)
    elif "groups" in result:
        print_table(("group", "count", *_COLUMNS), _rows_of_groups(result["groups"]))
    else:
        print_table(_COLUMNS, map(_row, result["hits"]))


def _ask(client: Client, collection: str, pictures: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    path = collection_path(collection, "/searches")
    headers = {"Prefer": "wait=10"}
    files = [Path(picture) for picture in pictures if not is_url(picture) and Path(picture).is_file()]
    if files and len(files) == len(pictures):
        with ExitStack() as opened:
            parts = [_part(file, opened) for file in files]
            parts.append(("query", (None, json.dumps(options), "application/json")))
            return client.post(path, files=parts, headers=headers)
    if len(pictures) > 1:
        raise click.UsageError("Several pictures must all be files; name URLs and ids with --like.")
    asked = {"url" if is_url(picture) else "id": picture for picture in pictures}
    return client.post(path, json=asked | options, headers=headers)


def _part(file: Path, opened: ExitStack) -> tuple[str, tuple[str | None, Any, str]]:
    return "image", (file.name, opened.enter_context(file.open("rb")), "application/octet-stream")


def _finished(client: Client, result: dict[str, Any]) -> dict[str, Any]:
    """The result, waited for until the API forgets the search. Raises Problem where it failed."""
    while result["state"] == "pending":
        time.sleep(_POLL_SECONDS)
        result = client.poll(f"/v1/searches/{result['id']}")
    if result["state"] == "failed":
        problem = result["problem"]
        raise Problem(problem["detail"], problem["code"])
    return result


def _rows_of_groups(groups: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for group in groups:
        for hit in group["hits"]:
            yield str(group["id"]), group["count"], *_row(hit)


def _row(hit: dict[str, Any]) -> tuple[float, str, str | None, str]:
    return float(hit["score"]), hit["id"], hit.get("url"), short(hit.get("payload") or {})

"""`lookalike search`: the most alike images of a collection."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from cli.client import Client, collection_path
from cli.errors import Problem
from cli.sources import is_url
from cli.tables import print_json, print_table, short
from shared.settings import Settings

_POLL_SECONDS = 0.3


@click.command()
@click.argument("query", metavar="IMAGE|URL|ID")
@click.option("--collection", default="images", show_default=True, help="Where to search.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="Most hits.")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="Hits to skip.")
@click.option("--filter", "condition", help="Qdrant's filter JSON, such as '{\"must\": […]}'.")
@click.option("--score-threshold", type=float, help="Least score of a hit.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
@click.pass_obj
def search(
    settings: Settings,
    query: str,
    collection: str,
    limit: int,
    offset: int,
    condition: str | None,
    score_threshold: float | None,
    as_json: bool,
) -> None:
    """Search by picture: a file, an image URL, or the id of an image that is indexed."""
    options: dict[str, Any] = {"limit": limit, "offset": offset}
    if condition is not None:
        options["filter"] = _parsed(condition)
    if score_threshold is not None:
        options["score_threshold"] = score_threshold
    client = Client(settings)
    result = _finished(client, _ask(client, collection, query, options))
    if as_json:
        print_json(result)
    else:
        print_table(("score", "id", "url", "payload"), map(_row, result["hits"]))


def _parsed(condition: str) -> Any:
    try:
        return json.loads(condition)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--filter") from error


def _ask(client: Client, collection: str, query: str, options: dict[str, Any]) -> dict[str, Any]:
    path = collection_path(collection, "/searches")
    headers = {"Prefer": "wait=10"}
    if not is_url(query) and Path(query).is_file():
        with Path(query).open("rb") as image:
            parts = {
                "image": (Path(query).name, image, "application/octet-stream"),
                "query": (None, json.dumps(options), "application/json"),
            }
            return client.post(path, files=parts, headers=headers)
    what = "url" if is_url(query) else "id"
    return client.post(path, json={what: query, **options}, headers=headers)


def _finished(client: Client, result: dict[str, Any]) -> dict[str, Any]:
    """The result, waited for until the API forgets the search. Raises Problem where it failed."""
    while result["state"] == "pending":
        time.sleep(_POLL_SECONDS)
        result = client.poll(f"/v1/searches/{result['id']}")
    if result["state"] == "failed":
        problem = result["problem"]
        raise Problem(problem["detail"], problem["code"])
    return result


def _row(hit: dict[str, Any]) -> tuple[float, str, str | None, str]:
    return float(hit["score"]), hit["id"], hit.get("url"), short(hit.get("payload") or {})

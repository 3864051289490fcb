"""The demo's seven searches: which picture asks, how it asks, and what comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cli.client import Client, collection_path
from cli.errors import Problem
from demo.radios import Photo, Radios, altered

HITS = 6
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Search:
    """`kind` and `how` say in words what is asked; `picture` is what a person sees of it.

    `fields` is the API's query, and `upload` whether the picture goes along. `original` is the id of the
    image that the query was made from, where it may come back.
    """

    kind: str
    how: str
    picture: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    upload: bool = False
    original: str | None = None


def image_url(base: str, photo: Photo) -> str:
    """Where the demo's image server has it."""
    return f"{base}/{quote(photo.id)}"


def searches(radios: Radios, base: str) -> Iterator[Search]:
    """Seven ways to ask. `base` is the image server's URL."""
    photos = {photo.file.stem: photo for photo in radios.photos()}

    copy = photos["Philips_B2Z69U_3445"]
    yield Search(
        "A damaged copy, uploaded",
        "cropped, halved, JPEG quality 40",
        altered(copy.file),
        upload=True,
        original=copy.id,
    )
    same = photos["Philips_B0Z17T_2617"]
    yield Search(
        "An upload", "an indexed picture, unaltered", same.file.read_bytes(), upload=True, original=same.id
    )
    yield Search("An upload", "a picture not in the collection", radios.unseen.read_bytes(), upload=True)
    known = photos["Philips_210_4515"]
    yield Search("By id", known.id, known.file.read_bytes(), {"id": known.id}, original=known.id)
    other = photos["Philips_648V_5171"]
    others = {"must_not": [{"key": "radio", "match": {"value": other.radio}}]}
    yield Search(
        f"Filtered: radio ≠ {other.radio}",
        "by id, other radios only",
        other.file.read_bytes(),
        {"id": other.id, "filter": others},
    )
    yield Search(
        "Grouped by radio",
        "by id, the best view of each radio",
        known.file.read_bytes(),
        {"id": known.id, "group_by": "radio"},
    )
    linked = photos["Philips_F5Z19A_3810"]
    yield Search(
        "By URL",
        "fetched by a worker",
        linked.file.read_bytes(),
        {"url": image_url(base, linked)},
        original=linked.id,
    )


def ask(client: Client, collection: str, search: Search) -> dict[str, Any]:
    """The API's answer: its `hits` or `groups`, and `took_ms`. Raises Problem."""
    query = json.dumps({**search.fields, "limit": HITS})
    path, headers = collection_path(collection, "/searches"), {"Prefer": "wait=10"}
    if search.upload:
        parts = {
            "image": ("query.jpg", search.picture, "image/jpeg"),
            "query": (None, query, "application/json"),
        }
        answer = client.post(path, headers=headers, files=parts)
    else:
        headers["Content-Type"] = "application/json"
        answer = client.post(path, headers=headers, data=query)
    while answer["state"] == "pending":
        time.sleep(POLL_SECONDS)
        answer = client.poll(f"/v1/searches/{answer['id']}")
    if answer["state"] == "failed":
        raise Problem(answer["problem"]["detail"], answer["problem"]["code"])
    return dict(answer)


def hits(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found, the nearest first: of a grouped search the best view of each group, with its `count`."""
    if "groups" in answer:
        return [{**group["hits"][0], "count": group["count"]} for group in answer["groups"]]
    return list(answer["hits"])


def caption(hit: dict[str, Any]) -> str:
    """The radio, and how many photographs of it there are where the search counted them."""
    radio = str(hit["payload"]["radio"])
    return f"{radio} · {hit['count']} views" if "count" in hit else radio


def milliseconds(answer: dict[str, Any]) -> float:
    """Queue, fetch, embedding and search together."""
    return float(sum(answer["took_ms"].values()))


def table(answer: dict[str, Any], search: Search) -> Sequence[tuple[str, float, str, str]]:
    """A row a hit: a mark on the original, score, radio, id."""
    return [
        ("●" if hit["id"] == search.original else " ", hit["score"], caption(hit), hit["id"])
        for hit in hits(answer)
    ]

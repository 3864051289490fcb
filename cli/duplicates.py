"""`lookalike duplicates`: images of a collection that are the same, or nearly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cli.client import Client, collection_path
from cli.study.contact_sheet import Cell, Row, draw
from cli.study.gathering import Gathered, gather
from cli.study.likeness import alike
from cli.study.options import out_folder, some_images
from cli.study.values import value_of
from cli.tables import print_json, write_csv
from shared.settings import Settings

_COLUMNS = ("set", "id", "group", "url", "sha256", "similarity", "how")
_SETS_DRAWN, _IMAGES_DRAWN = 40, 8


@dataclass(frozen=True)
class Pictured:
    """What is told of an image."""

    group: str | None
    url: str | None
    sha256: str
    thumbnail: bool


@click.command()
@click.argument("collection")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    default=0.97,
    show_default=True,
    help="Least similarity of two images that are taken for the same.",
)
@click.option("--across", metavar="FIELD", help="Only sets that span several values of it, such as `group`.")
@some_images
@out_folder("duplicates.csv and duplicates.png")
@click.option("--json", "as_json", is_flag=True, help="Print each row of duplicates.csv as a line of JSON.")
@click.pass_obj
def duplicates(
    settings: Settings,
    collection: str,
    threshold: float,
    across: str | None,
    condition: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Find images that are the same, or nearly, under whatever ids.

    Two belong to one set where their bytes are the same or their vectors' similarity is at least the threshold, or
    where a third joins them.
    """
    out.mkdir(parents=True, exist_ok=True)
    client = Client(settings)
    images = gather(client, collection, lambda image: _pictured(image, across or "group"), condition)
    sets = alike([row.sha256 for row in images.rows], images.vectors, threshold)
    if across:
        sets = [members for members in sets if _spans(images, members)]
    rows = [row for number, members in enumerate(sets, start=1) for row in _rows(images, number, members)]
    write_csv(out / "duplicates.csv", _COLUMNS, rows)
    draw(list(_drawn(client, images, sets)), _words(collection, sets), out / "duplicates.png")
    if as_json:
        for row in rows:
            print_json(dict(zip(_COLUMNS, row, strict=True)))
    else:
        click.echo(_words(collection, sets))
    click.echo(f"Written to {out}: duplicates.csv, duplicates.png", err=True)


def _pictured(image: dict[str, Any], field: str) -> Pictured:
    system = image["payload"]["_image"]
    return Pictured(value_of(image, field), image["url"], system["sha256"], bool(system.get("thumbnail")))


def _spans(images: Gathered[Pictured], members: Sequence[int]) -> bool:
    """Whether they are of several groups; an image without one is a group by itself."""
    groups = {images.rows[place].group or ("alone", place) for place in members}
    return len(groups) > 1


def _rows(images: Gathered[Pictured], number: int, members: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """A set's rows. `how`: bytes where an earlier row has the same, else vector; the first has none."""
    seen: set[str] = set()
    for place in members:
        row = images.rows[place]
        how = "bytes" if row.sha256 in seen else "vector" if seen else None
        seen.add(row.sha256)
        likeness = _similarity(images, members[0], place)
        yield number, images.ids[place], row.group, row.url, row.sha256, likeness, how


def _similarity(images: Gathered[Pictured], first: int, place: int) -> float:
    return 1.0 if first == place else round(float(images.vectors[first] @ images.vectors[place]), 4)


def _drawn(client: Client, images: Gathered[Pictured], sets: Sequence[Sequence[int]]) -> Iterator[Row]:
    """What is drawn of each set that is drawn at all."""
    for number, members in enumerate(sets[:_SETS_DRAWN], start=1):
        some = f", the first {_IMAGES_DRAWN} drawn" if len(members) > _IMAGES_DRAWN else ""
        cells = [
            Cell(
                images.ids[place],
                f"{_similarity(images, members[0], place):.3f}",
                _thumbnail(client, images.key, images.ids[place]) if images.rows[place].thumbnail else None,
            )
            for place in members[:_IMAGES_DRAWN]
        ]
        yield Row(f"Set {number}: {len(members):,} images{some}", cells)


def _thumbnail(client: Client, key: str, id: str) -> bytes | None:
    return client.file(collection_path(key, f"/images/{quote(id, safe='')}/thumbnail"))


def _words(collection: str, sets: Sequence[Sequence[int]]) -> str:
    images = sum(map(len, sets))
    drawn = f", the first {_SETS_DRAWN} drawn" if len(sets) > _SETS_DRAWN else ""
    plural = "" if len(sets) == 1 else "s"
    return f"{collection}: {len(sets):,} set{plural} of the same picture, {images:,} images{drawn}"

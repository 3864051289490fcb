"""What a catalogue team has to work on: images that are missing, broken, too small, twice there, or placeholders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

FLAGS = ("missing", "broken", "too_small", "placeholder", "duplicate_of")
_GROUPS_OF_A_PLACEHOLDER = 3
_VIEW = re.compile(
    r"(.+)#[0-9]+", re.DOTALL
)  # the id of one of several images of a row: the row's id and a number


@dataclass
class Row:
    """An item, or a product (`kind`): 1 where the word is true of an item, of how many of a product's items.

    `missing`: its URL was empty; a product without any image. `broken`: it failed, by `code` and `detail`.
    `too_small`: a side is shorter than wanted. `duplicate_of`: the first id with the same bytes; for a product, the
    first other one that has one of its pictures. `placeholder`: the same bytes stand under three products or more.
    """

    kind: str
    id: str
    group: str | None
    url: str | None = None
    missing: int = 0
    broken: int = 0
    too_small: int = 0
    placeholder: int = 0
    duplicate_of: str | None = None
    code: str | None = None
    detail: str | None = None
    sha256: str | None = None  # None: no image of it stands

    @property
    def flawed(self) -> bool:
        return any(getattr(self, flag) for flag in FLAGS)


COLUMNS = tuple(column.name for column in fields(Row))


def items(
    images: Iterable[dict[str, Any]], failures: Iterable[dict[str, Any]], group: str, min_side: int
) -> list[Row]:
    """Every image of a collection and every failed item of its jobs as a row, by id. `group` is a payload field."""
    rows = {image["id"]: _row(image, group, min_side) for image in images}
    for failure in failures:
        id = failure["id"]
        row = rows.setdefault(id, Row("item", id, _product_of(id)))
        row.url, row.code, row.detail = failure["url"], failure["code"], failure["detail"]
        row.missing, row.broken = (0, 1) if failure["url"] else (1, 0)
    ordered = [rows[id] for id in sorted(rows)]
    _compare(ordered)
    return ordered


def products(items: Iterable[Row]) -> Iterator[Row]:
    """A row for each product among the items, by id. Items without a group belong to none."""
    members: dict[str, list[Row]] = defaultdict(list)
    group_of: dict[str, str | None] = {}
    for item in items:
        group_of[item.id] = item.group
        if item.group is not None:
            members[item.group].append(item)
    for group, mine in sorted(members.items()):
        twins = (group_of[item.duplicate_of] for item in mine if item.duplicate_of and not item.placeholder)
        yield Row(
            kind="product",
            id=group,
            group=group,
            missing=int(all(item.sha256 is None for item in mine)),
            broken=sum(item.broken for item in mine),
            too_small=sum(item.too_small for item in mine),
            placeholder=sum(item.placeholder for item in mine),
            duplicate_of=min((twin for twin in twins if twin not in (None, group)), default=None),
        )


def _row(image: dict[str, Any], group: str, min_side: int) -> Row:
    system = image["payload"]["_image"]
    return Row(
        kind="item",
        id=image["id"],
        group=_text(image["payload"].get(group)),
        url=image["url"],
        too_small=int(min(system["width"], system["height"]) < min_side),
        sha256=system["sha256"],
    )


def _product_of(id: str) -> str | None:
    """The product of an item that failed, of which no more than its id is told."""
    view = _VIEW.fullmatch(id)
    return view[1] if view else None


def _compare(items: Iterable[Row]) -> None:
    """Note who has the same bytes as whom."""
    same: dict[str, list[Row]] = defaultdict(list)
    for item in items:
        if item.sha256:
            same[item.sha256].append(item)
    for first, *others in same.values():
        owners = {item.id if item.group is None else item.group for item in (first, *others)}
        for item in (first, *others):
            item.placeholder = int(len(owners) >= _GROUPS_OF_A_PLACEHOLDER)
        for item in others:
            item.duplicate_of = first.id


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

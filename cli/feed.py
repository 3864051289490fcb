"""How a feed or a data set is to be read, in the words of the API: as arguments of a list, or as an import's source."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

_SYNC = ("sync", "sync_share", "force")
_LISTS_KNOW = ("url_column", "id_column", "group_column", "separator")
_IMPORTS_KNOW = (*_LISTS_KNOW, "config", "split", "revision", "format", "image_column", "limit", "fraction")


@dataclass(frozen=True)
class Reading:
    """`given` are the options that a person gave, by the API's names for them."""

    given: dict[str, Any] = field(default_factory=dict)
    prices: tuple[str, ...] = ()
    fill: dict[str, Any] = field(default_factory=dict)

    @property
    def syncs(self) -> bool:
        return bool(self.given.get("sync"))

    @property
    def is_of_a_feed(self) -> bool:
        """Whether it says how rows are read."""
        return bool(self.fill or self.prices) or any(name not in _SYNC for name in self.given)

    @property
    def needs_a_worker(self) -> bool:
        """Whether it says what the API itself, which reads lists as they come, knows nothing of."""
        return bool(self.fill) or any(name in self.given for name in _IMPORTS_KNOW if name not in _LISTS_KNOW)

    def arguments(self, *, of_a_table: bool) -> dict[str, str]:
        """For `…/jobs`."""
        names = (*_LISTS_KNOW, *_SYNC) if of_a_table else _SYNC
        asked = {name: _spelt(self.given[name]) for name in names if name in self.given}
        return asked | ({"prices": ",".join(self.prices)} if self.prices and of_a_table else {})

    def source(self, **origin: str) -> dict[str, Any]:
        """For `…/imports`: an import of `origin`, which is a data set or a file, or of what comes along."""
        asked = {name: self.given[name] for name in (*_IMPORTS_KNOW, *_SYNC) if name in self.given}
        asked |= {"prices": list(self.prices)} if self.prices else {}
        return {**origin, **asked, **({"fill": self.fill} if self.fill else {})}


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that say how a feed or a data set is read; `reading` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def reading(*, price: tuple[str, ...], fill: tuple[str, ...], **given: Any) -> Reading:
    """What a person's options ask for. UsageError where a `--fill` is none."""
    asked = {name: value for name, value in given.items() if value is not None and value is not False}
    return Reading(asked, price, dict(_filled(each) for each in fill))


_OPTIONS = (
    click.option("--config", help="The data set's configuration."),
    click.option("--split", help="The data set's split.  [default: train]"),
    click.option("--revision", help="The data set's commit, tag or branch."),
    click.option(
        "--format",
        type=click.Choice(("csv", "tsv", "parquet", "json", "imagefolder", "webdataset")),
        help="What a feed is.  [default: by its name]",
    ),
    click.option("--image-column", help="The column of pictures: bytes, or URLs."),
    click.option("--url-column", help="The column of image URLs.  [default: url]"),
    click.option("--id-column", help="The column of ids.  [default: id]"),
    click.option("--group-column", help="The column that says what belongs together."),
    click.option("--separator", help="What stands between several URLs in one cell, such as '|'."),
    click.option("--price", multiple=True, help="A column of prices, such as '$24.99'. Repeatable."),
    click.option("--fill", multiple=True, metavar="COLUMN=VALUE", help="For missing values. Repeatable."),
    click.option("--limit", type=click.IntRange(1), help="Most rows, for a trial."),
    click.option(
        "--fraction", type=click.FloatRange(0, 1, min_open=True), help="A share of all rows, for a trial."
    ),
    click.option("--sync", is_flag=True, help="Remove the images that are no longer in the feed."),
    click.option(
        "--sync-share",
        type=click.FloatRange(0, 1),
        help="Remove nothing if it would be more than this share of the collection.  [default: 0.2]",
    ),
    click.option(
        "--force", is_flag=True, help="Remove them however many they are, and though items were unreadable."
    ),
)


def _filled(text: str) -> tuple[str, Any]:
    column, mark, value = text.partition("=")
    if not mark or not column:
        raise click.BadParameter(f"{text}: write COLUMN=VALUE.", param_hint="--fill")
    try:
        return column, json.loads(value)
    except ValueError:
        return column, value


def _spelt(value: Any) -> str:
    return "true" if value is True else str(value)

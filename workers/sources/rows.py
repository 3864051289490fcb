"""What every kind of source gives: rows, and what is known of their columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import LookalikeError
from workers.sources.values import value

Row = dict[str, Any]


class SourceError(LookalikeError):
    """The source cannot be read, and a person can mend it: another file, column, name or split."""


class Unreadable(LookalikeError):
    """What stands at a path is not to be had; the words are a clause."""


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read, and why; those after it can."""

    why: str


@dataclass(frozen=True)
class Rows:
    """The rows of a source, as they stand there. `columns` is empty where each row has its own (JSON).

    `read` is told the columns that no row can do without; SourceError where a file after the first lacks one.
    `pictures` are the columns that hold pictures, `key` is the one that holds an id where the person names none, and
    `hidden` belong to the format and to no payload. `value` makes a payload value of a cell. `open` gives the
    bytes at a path that a row names, so many at most; Unreadable where the path leads out of the source.
    """

    read: Callable[[Collection[str]], Iterator[Row | Broken]]
    columns: Sequence[str] = ()
    pictures: Sequence[str] = ()
    key: str = "id"
    hidden: Sequence[str] = ()
    value: Callable[[Any], Any] = value
    open: Callable[[str, int], bytes] | None = None
    revision: str | None = None


def check_columns(path: str, columns: Sequence[str], needed: Collection[str]) -> None:
    """SourceError where a file's columns lack one that is needed."""
    for column in needed:
        if column not in columns:
            raise SourceError(
                f"`{path.rpartition('/')[2]}` has no column `{column[:100]}`; there are {in_words(columns)}. Every "
                "file of a source needs the columns that say more than payload: ids, images, groups, prices."
            )


def in_words(columns: Sequence[str]) -> str:
    """For a person who named another one."""
    return ", ".join(f"`{name[:100]}`" for name in columns[:50]) or "none"

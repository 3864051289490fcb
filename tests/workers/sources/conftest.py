"""Reading a source to its end: in this process, where its rows are the question, or in one of its own."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.contract import Item, Source
from workers.sources.__main__ import main
from workers.sources.frames import Frame, read
from workers.sources.orders import Orders
from workers.sources.reading import Reading


@dataclass(frozen=True)
class Read:
    """All that was said of a source."""

    frames: list[Frame]

    @property
    def items(self) -> list[Item]:
        return [item for frame in self.frames for item in frame.head.items]

    @property
    def images(self) -> dict[str, bytes]:
        """The bytes by their items' ids."""
        return {
            frame.head.items[number].id: data
            for frame in self.frames
            for number, data in frame.images.items()
        }

    @property
    def error(self) -> str | None:
        return self.frames[-1].head.error

    @property
    def rows(self) -> int:
        return self.frames[-1].head.row

    @property
    def unnamed(self) -> list[str]:
        """What the items are called that name nothing of what they stand for."""
        return [item.id for item in self.items if item.refused and item.refused.unnamed]

    def refusals(self) -> dict[str, tuple[str, str]]:
        """Code and words of what was refused, by id."""
        return {item.id: (item.refused.code, item.refused.detail) for item in self.items if item.refused}


def orders(*paths: Path, given: dict[str, Any] | None = None, **source: Any) -> Orders:
    """`given` are the orders' own fields, the rest the source's."""
    kind = {} if "dataset" in source else {"files": [str(path) for path in paths]}
    return Orders(source=Source(**kind, **source), paths=[str(path) for path in paths], **(given or {}))


def read_here(*paths: Path, given: dict[str, Any] | None = None, **source: Any) -> Read:
    said = io.BytesIO()
    main(orders(*paths, given=given, **source), said)
    said.seek(0)
    return Read(list(_frames(said)))


def read_apart(*paths: Path, given: dict[str, Any] | None = None, **source: Any) -> Read:
    with Reading(orders(*paths, given=given, **source)) as reading:
        return Read(list(reading))


def _frames(said: io.BytesIO) -> Iterable[Frame]:
    while True:
        frame = read(said)
        yield frame
        if frame.head.end or frame.head.error:
            return


def written(path: Path, lines: Sequence[str] | bytes) -> Path:
    path.write_bytes(lines if isinstance(lines, bytes) else "\n".join(lines).encode())
    return path

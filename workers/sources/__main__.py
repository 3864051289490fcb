"""The process that reads a source, where a feed can do no harm. Its parent is `reading.py`.

Its limits hold back accidents and bombs: they are no prison for somebody who runs code of his own here.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from shared.contract import Source
from shared.errors import LookalikeError
from workers.sources.archives import archive_rows
from workers.sources.feeds import json_rows, table_rows
from workers.sources.frames import Frames
from workers.sources.hub import folder_rows, hub_rows, keep_to_the_hub
from workers.sources.items import Items
from workers.sources.orders import Orders
from workers.sources.parquet import parquet_rows
from workers.sources.rows import Rows, SourceError
from workers.sources.stamps import stamp

_MOST_WRITTEN = 64 * 2**20  # a data set's card and its like
_READ_BUFFER = 2**20
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".tar": "webdataset",
}


def main(orders: Orders, pipe: BinaryIO) -> None:
    """Say every item of the source, in order, and then `end`; or `error`, where it cannot be read further."""
    frames = Frames(pipe, orders)
    try:
        stamped = _stamped(orders)
        rows = _rows(orders)
        if revision := rows.revision or stamped:
            frames.say(revision=revision)
        items = Items(orders, rows)
        for number, row in enumerate(rows.read(items.columns), start=orders.skip):
            if _taken(orders.source, number) == orders.source.limit:
                break
            is_taken = _taken(orders.source, number + 1) > _taken(orders.source, number)
            frames.add(items.of(row, number) if is_taken else [])
        if frames.row == 0:
            raise SourceError("The source has no rows.")
        frames.say(end=True)
    except LookalikeError as error:
        frames.say(error=error.detail)
    except MemoryError:
        limit = f"{orders.memory_mib:,} MiB of memory (LOOKALIKE_IMPORT_MEMORY_MIB)"
        frames.say(error=f"Reading it takes more than {limit}; is a value in it that large?")


def _taken(source: Source, rows: int) -> int:
    """How many of so many first rows are taken: evenly spread, and the same ones each time."""
    return rows if source.fraction is None else math.ceil(rows * source.fraction)


def _stamped(orders: Orders) -> str | None:
    """What tells the files that are read where they stand from others; those that were brought here stay as they are.

    SourceError where it is not what it was when rows were taken: the next one is no longer known by its number.
    """
    named = zip(orders.paths, orders.source.files or (), strict=False)
    here = [path for path, file in named if "://" not in file]
    if not here:
        return None
    now, before = stamp(here), orders.source.revision
    if orders.skip and before and before != now:
        names = ", ".join(f"`{Path(path).name[:100]}`" for path in here[:10])
        raise SourceError(f"{names}: changed after a part was read; import it again.")
    return now


def _rows(orders: Orders) -> Rows:
    source, paths, skip = orders.source, orders.paths, orders.skip
    if source.dataset:
        return hub_rows(source, orders.max_image_bytes + 1, skip)
    format = source.format or _format_of(paths[0])
    if format == "imagefolder":
        return folder_rows(paths, source.split, skip)
    if folder := next((path for path in paths if Path(path).is_dir()), None):
        raise SourceError(f"`{Path(folder).name}` is a folder, and `{format}` is a format of files.")
    if format == "parquet":
        return parquet_rows(paths, _opened, skip, _READ_BUFFER)
    if format == "webdataset":
        return archive_rows(paths, _opened, orders.max_image_bytes + 1, skip)
    if format == "json":
        return json_rows(paths, orders.max_item_bytes, skip)
    return table_rows(paths, format, orders.max_item_bytes, skip)


def _opened(path: str) -> BinaryIO:
    return open(path, "rb")


def _format_of(path: str) -> str:
    """What a folder or a file is by its name."""
    if Path(path).is_dir():
        return "imagefolder"
    try:
        return _SUFFIXES[Path(path).suffix.lower()]
    except KeyError:
        known = ", ".join(sorted(set(_SUFFIXES.values())))
        raise SourceError(f"The name `{Path(path).name}` tells no format; give `format`: {known}.") from None


def _limit_process(memory_mib: int) -> None:
    warnings.simplefilter("ignore")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _MOST_WRITTEN)
    if sys.platform == "linux":  # macOS knows no such limit
        # Where memory runs out all the same, this process is to die and not the worker.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_mib * 2**20)


def _limit(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


if __name__ == "__main__":
    given = Orders.model_validate_json(sys.stdin.buffer.read())
    _limit_process(given.memory_mib)
    keep_to_the_hub()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no frame
        main(given, pipe)

"""A collection's vectors, read through the API into a file of this machine, with what is wanted of each image."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cli.client import Client, collection_path, version_key
from cli.errors import Problem
from cli.progress import watched

T = TypeVar("T")
Vectors = NDArray[np.float32]
_ROWS_A_COPY = 4096


@dataclass(frozen=True)
class Gathered(Generic[T]):
    """Images in the order of their ids: what was kept of each, and `vectors`, float32 [N, D], on the disk.

    `about` is the collection as the API describes it; `skipped` counts the images of which nothing was kept.
    """

    about: dict[str, Any]
    ids: list[str]
    rows: list[T]
    vectors: Vectors
    skipped: int

    @property
    def key(self) -> str:
        """The version that was read, whatever is live by now."""
        return version_key(self.about)


def gather(
    client: Client,
    name: str,
    keep: Callable[[dict[str, Any]], T | None],
    condition: str | None = None,
    file: Path | None = None,
) -> Gathered[T]:
    """Every image of a collection that meets `condition`, a filter's JSON, and of which `keep` makes something.

    `file` gets the vectors as NPY. Raises Problem where there are none.
    """
    about = client.get(collection_path(name))
    ids: list[str] = []
    rows: list[T] = []
    skipped = 0
    with tempfile.TemporaryFile() as spool:
        path = collection_path(version_key(about), "/images")
        pages = client.pages(path, "images", vectors="true", filter=condition)
        for image in watched(pages, f"Reading {name}", about["images"]):
            row = keep(image)
            if row is None:
                skipped += 1
                continue
            ids.append(image["id"])
            rows.append(row)
            spool.write(_vector(image, about["dimension"]))
        if not ids:
            raise Problem(f"Collection `{name}` has no images to work on" + _but(skipped))
        order = sorted(range(len(ids)), key=ids.__getitem__)
        vectors = _in_order(spool, order, about["dimension"], file)
    return Gathered(about, [ids[n] for n in order], [rows[n] for n in order], vectors, skipped)


def _vector(image: dict[str, Any], dimension: int) -> bytes:
    """The little-endian float32 of one image."""
    given = image.get("vector")
    raw = base64.b64decode(given) if isinstance(given, str) else b""
    if len(raw) != 4 * dimension:
        raise Problem(
            f"Image `{image['id']}` came without a vector of {dimension} dimensions. Was the collection made anew "
            "meanwhile, or is the server older than this command? Try again, or update it."
        )
    return raw


def _in_order(spool: BinaryIO, order: Sequence[int], dimension: int, file: Path | None) -> Vectors:
    """The spooled vectors in another order, in `file` or in one that goes with the process."""
    spool.flush()
    shape = (len(order), dimension)
    unsorted = np.memmap(spool, dtype="<f4", mode="r", shape=shape)
    if file:
        vectors = np.lib.format.open_memmap(file, mode="w+", dtype="<f4", shape=shape)
    else:
        with tempfile.TemporaryFile() as nameless:  # its mapping stays when it is closed
            vectors = np.memmap(nameless, dtype="<f4", mode="w+", shape=shape)
    for start in range(0, len(order), _ROWS_A_COPY):
        vectors[start : start + _ROWS_A_COPY] = unsorted[order[start : start + _ROWS_A_COPY]]
    vectors.flush()
    return vectors


def _but(skipped: int) -> str:
    return f": {skipped:,} were looked at, and none has what was asked for." if skipped else "."

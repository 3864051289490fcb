"""A collection in a folder: images.parquet holds all of it, vectors.npy and ids.txt the same vectors for NumPy.

Columns of images.parquet: `id`, `url`, each payload field under its own name (after `payload.` where it is called as
another column is), the system's fields as `_image.sha256` and so on, and `vector`. Rows are in the order of their ids.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from cli.client import Client
from cli.errors import Problem
from cli.progress import watched
from cli.study.columns import MISSING, Kinds, column, values
from cli.study.gathering import Gathered, gather

Json = dict[str, Any]

_FORMAT = "lookalike-export-1"
_KEPT = ("name", "model", "revision", "preprocessing", "dimension", "distance", "indexes")
_TABLE, _VECTORS, _IDS, _ABOUT = "images.parquet", "vectors.npy", "ids.txt", "collection.json"
_SYSTEM, _PREFIX = "_image.", "payload."
_OWN = frozenset({"id", "url", "vector"})
_ROWS = 1000  # of one row group, and one reading


class Spool:
    """The fields of images, on the disk until their columns' types are known."""

    def __init__(self, file: BinaryIO) -> None:
        self.kinds = Kinds()
        self._file = file

    def keep(self, image: Json) -> int:
        """Write an image's fields; where to read them again."""
        fields = _flat(image)
        self.kinds.learn(fields)
        place = self._file.tell()
        self._file.write(json.dumps({"url": image["url"], "fields": fields}).encode() + b"\n")
        return place

    def read(self, place: int) -> Json:
        """The `url` and the `fields` of one image."""
        self._file.seek(place)
        row: Json = json.loads(self._file.readline())
        return row


def write(client: Client, name: str, folder: Path, condition: str | None = None) -> int:
    """Write the images that meet `condition`; how many. Raises Problem where something is in the way."""
    if (folder / _TABLE).exists():
        raise Problem(f"{folder} holds an export already; take another folder, or delete that one first.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as file:
        spool = Spool(file)
        images = gather(client, name, spool.keep, condition, folder / _VECTORS)
        _write_table(images, spool, folder / _TABLE)
    lines = "".join(f"{_line(id)}\n" for id in images.ids)
    (folder / _IDS).write_bytes(lines.encode())
    about = {field: images.about[field] for field in _KEPT}
    text = json.dumps({"format": _FORMAT, **about, "images": len(images.ids)}, ensure_ascii=False, indent=1)
    (folder / _ABOUT).write_text(text + "\n", encoding="utf-8")
    return len(images.ids)


def about(folder: Path) -> Json:
    """What collection.json says. Raises Problem where the folder is no export."""
    try:
        described = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if described["format"] == _FORMAT and (folder / _TABLE).is_file():
            return dict(described)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _no_export(folder) from error
    raise _no_export(folder)


def items(folder: Path) -> Iterator[Json]:
    """The images as items of a job, each with its vector, in the order of their ids."""
    try:
        with pq.ParquetFile(folder / _TABLE) as table:
            for batch in table.iter_batches(_ROWS):
                yield from _items(batch)
    except pa.ArrowException as error:
        raise Problem(f"{folder / _TABLE} cannot be read as the export wrote it: {error}") from error


def _write_table(images: Gathered[int], spool: Spool, path: Path) -> None:
    types = spool.kinds.types()
    own = [("id", pa.string()), ("url", pa.string())]
    vector = pa.list_(pa.float32(), images.about["dimension"])
    schema = pa.schema([*own, *types.items(), ("vector", vector)])
    starts = watched(range(0, len(images.ids), _ROWS), "Writing", None)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=[*types, "url"]) as table:
        for start in starts:
            some = slice(start, start + _ROWS)
            rows = [spool.read(place) for place in images.rows[some]]
            fields = [row["fields"] for row in rows]
            arrays = [
                pa.array(images.ids[some], pa.string()),
                pa.array([row["url"] for row in rows], pa.string()),
                *(column(fields, field, type) for field, type in types.items()),
                pa.FixedSizeListArray.from_arrays(pa.array(images.vectors[some].reshape(-1)), type=vector),
            ]
            table.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _flat(image: Json) -> Json:
    """Payload and system fields by the names of their columns."""
    payload = dict(image["payload"])
    system = payload.pop("_image", {})
    fields = {
        f"{_PREFIX}{field}" if field in _OWN or field.startswith(_PREFIX) else field: value
        for field, value in payload.items()
    }
    return fields | {f"{_SYSTEM}{field}": value for field, value in system.items() if field not in _OWN}


def _items(batch: pa.RecordBatch) -> Iterator[Json]:
    names = [name for name in batch.schema.names if name not in _OWN]
    columns = [values(batch.column(name)) for name in names]
    floats = batch.column("vector").flatten().to_numpy().reshape(len(batch), -1)
    ids, urls = batch.column("id").to_pylist(), batch.column("url").to_pylist()
    for number, row in enumerate(zip(*columns, strict=True)):
        fields = {name: value for name, value in zip(names, row, strict=True) if value is not MISSING}
        system = {
            name.removeprefix(_SYSTEM): fields.pop(name)
            for name in names
            if name in fields and _is_system(name)
        }
        yield {
            "id": ids[number],
            **({"url": urls[number]} if urls[number] else {}),
            "payload": {name.removeprefix(_PREFIX): value for name, value in fields.items()},
            "image": system,
            "fingerprint": system.get("model"),
            "vector": base64.b64encode(floats[number].tobytes()).decode(),
        }


def _is_system(name: str) -> bool:
    return name.startswith(_SYSTEM)


def _line(id: str) -> str:
    """An id as a line: as it stands, or as JSON where it has line breaks or could be taken for JSON."""
    return json.dumps(id) if id.startswith('"') or len(id.splitlines()) != 1 else id


def _no_export(folder: Path) -> Problem:
    return Problem(
        f"{folder} is not what `lookalike export` writes: its {_ABOUT} or {_TABLE} is missing or unlike."
    )

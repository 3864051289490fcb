"""JSON fields ↔ typed Arrow columns, and nothing is lost: what is not uniform becomes a column of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

JSON = pa.json_(pa.string())
_TYPES: dict[Any, pa.DataType] = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_MIXED = "mixed"
_EMPTY = "empty"  # a list without members fits any list


class Kinds:
    """Learns from rows what each field may become."""

    def __init__(self) -> None:
        self._seen: dict[str, set[Any]] = {}

    def learn(self, row: dict[str, Any]) -> None:
        """The fields of one more row."""
        for field, value in row.items():
            self._seen.setdefault(field, set()).add(_kind(value))

    def types(self) -> dict[str, pa.DataType]:
        """The fields by name, each with its type."""
        return {field: _type(self._seen[field]) for field in sorted(self._seen)}


def column(rows: Sequence[dict[str, Any]], field: str, type: pa.DataType) -> pa.Array:
    """The field's values as an array; null where a row has none."""
    if type != JSON:
        return pa.array([row.get(field) for row in rows], type)
    texts = [json.dumps(row[field], ensure_ascii=False) if field in row else None for row in rows]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string()))


def values(array: pa.Array) -> Iterable[Any]:
    """What the rows had; MISSING where they had none."""
    parse = json.loads if array.type == JSON else (lambda value: value)
    return (MISSING if value is None else parse(value) for value in array.to_pylist())


MISSING = object()


def _kind(value: Any) -> Any:
    """The type of a value, `(list, type)` of a list that is uniform."""
    if not isinstance(value, list):
        return type(value)
    members = {type(member) for member in value}
    return (list, members.pop() if len(members) == 1 else _MIXED if members else _EMPTY)


def _type(kinds: set[Any]) -> pa.DataType:
    full = kinds - {(list, _EMPTY)}
    if len(full) != 1:
        return JSON
    (kind,) = full
    if isinstance(kind, tuple):
        return pa.list_(_TYPES[kind[1]]) if kind[1] in _TYPES else JSON
    return _TYPES.get(kind, JSON) if kinds == full else JSON

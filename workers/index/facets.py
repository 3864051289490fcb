"""Counting the values of a field needs a payload index; this finds the right type and makes it."""

from __future__ import annotations

import re
from typing import Any

from shared.errors import RequestCode, RequestError
from workers.index.interface import FieldType, Index
from workers.index.refusals import no_collection

_COUNTABLE: dict[type, FieldType] = {str: "keyword", int: "integer", bool: "bool"}
_STEP = re.compile(r'"([^"]+)"|([^.\[\]"]+)')


def prepare_facet(index: Index, name: str, key: str) -> bool:
    """Make the payload index that counting `key` needs. False where no image has the field.

    RequestError(INVALID_REQUEST) where the field is not one whose values can be counted.
    """
    collection = index.find(name)
    if collection is None:
        raise no_collection(name)
    if key in collection.indexes:
        _refuse_unless_countable(key, collection.indexes[key])
        return True
    sample = _sample(index, name, key)
    if sample is None:
        return False
    kind = _COUNTABLE.get(type(sample))
    _refuse_unless_countable(key, kind or type(sample).__name__)
    index.ensure_indexes(name, {key: kind} if kind else {})
    return True


def _sample(index: Index, name: str, key: str) -> Any:
    """One value that some image has for `key`, None where none has."""
    points, _ = index.scroll(name, filter={"must_not": [{"is_empty": {"key": key}}]}, limit=1)
    return _value_at(points[0].payload, key) if points else None


def _value_at(payload: dict[str, Any], key: str) -> Any:
    """Follow Qdrant's path syntax (`a.b`, `tags[]`, `"two words"`) to the first value."""
    value: Any = payload
    for quoted, plain in _STEP.findall(key):
        value = value.get(quoted or plain) if isinstance(value, dict) else None
        while isinstance(value, list):
            value = value[0] if value else None
    return value


def _refuse_unless_countable(key: str, kind: str) -> None:
    if kind not in ("keyword", "integer", "bool", "uuid"):
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f"The values of `{key}` are of type {kind}; only words, whole numbers and booleans are counted.",
        )

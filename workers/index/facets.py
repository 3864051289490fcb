"""Counting the values of a field needs a payload index; this finds the right type and makes it."""

from __future__ import annotations

import re
import time
from typing import Any

from shared.errors import RequestCode, RequestError
from workers.index.interface import MOST_INDEXES, Collection, FieldType, Index
from workers.index.refusals import no_collection

_COUNTABLE: dict[type, FieldType] = {str: "keyword", int: "integer", bool: "bool"}
_STEP = re.compile(r'"([^"]+)"|([^.\[\]"]+)')
_SECONDS = 60.0  # that a field is remembered which no image has
_MOST = 1000  # fields that are


class Facets:
    """The fields whose values are counted. Safe to share between threads.

    That no image has a field is known only after all have been looked at, so it is remembered for a minute, while
    the collection has as many images as it had then.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._absent: dict[tuple[str, str, int], float] = {}

    def prepare(self, name: str, key: str) -> bool:
        """What `Index.index_values` does."""
        collection = self._index.find(name)
        if collection is None:
            raise no_collection(name)
        if key in collection.indexes:
            _refuse_unless_countable(key, collection.indexes[key])
            return True
        sample = self._sample(collection.key, key)
        if sample is None:
            return False
        kind = _COUNTABLE.get(type(sample))
        _refuse_unless_countable(key, kind or type(sample).__name__)
        if not collection.has_room_for([key]):
            raise _no_room(collection, key)
        self._index.ensure_indexes(collection.key, {key: kind} if kind else {})
        return True

    def _sample(self, version: str, key: str) -> Any:
        """One value that some image has for `key`, None where none has."""
        now, asked = time.monotonic(), (version, key, self._index.count(version))
        if self._absent.get(asked, now) > now:
            return None
        points, _ = self._index.scroll(version, filter={"must_not": [{"is_empty": {"key": key}}]}, limit=1)
        if points:
            return _value_at(points[0].payload, key)
        lasting = {known: until for known, until in self._absent.items() if until > now}
        self._absent = {**(lasting if len(lasting) < _MOST else {}), asked: now + _SECONDS}
        return None


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


def _no_room(collection: Collection, key: str) -> RequestError:
    return RequestError(
        RequestCode.INVALID_REQUEST,
        f"Counting the values of `{key}` needs a payload index, and collection `{collection.name}` has "
        f"{len(collection.indexes)} already ({MOST_INDEXES} are made at most). Ask for a field that is indexed: the "
        "collection's `indexes` names them.",
    )

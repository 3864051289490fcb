"""Counting the values of a field needs a payload index; this finds the right type and makes it."""

from __future__ import annotations

import time
from typing import Any

from shared.errors import RequestCode, RequestError
from workers.index.interface import MOST_INDEXES, Collection, FieldType, Index, values_at
from workers.index.refusals import no_collection

_COUNTABLE: dict[type, FieldType] = {str: "keyword", int: "integer", bool: "bool"}
_SAMPLE = 10  # images, of which one may have nothing but nulls
_SECONDS = 5.0  # that a field is remembered which no image has
_MOST = 1000  # fields that are


class Facets:
    """The fields whose values are counted. Safe to share between threads.

    That no image has a field is known only after all have been looked at, so it is remembered for some seconds, or
    until this process writes.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._absent: dict[tuple[str, str], float] = {}

    def prepare(self, name: str, key: str) -> bool:
        """What `Index.index_values` does."""
        collection = self._index.find(name)
        if collection is None:
            raise no_collection(name)
        if key in collection.indexes:
            if collection.indexes[key] not in ("keyword", "integer", "bool", "uuid"):
                raise _not_countable(key, collection.indexes[key])
            return True
        sample = self._sample(collection.key, key)
        if sample is None:
            return False
        kind = _COUNTABLE.get(type(sample))
        if kind is None:
            raise _not_countable(key, type(sample).__name__)
        if not collection.has_room_for([key]):
            raise _no_room(collection, key)
        self._index.ensure_indexes(collection.key, {key: kind})
        return True

    def forget(self) -> None:
        """What was written may have brought a field that no image had."""
        self._absent = {}

    def _sample(self, version: str, key: str) -> Any:
        """One value that some image has for `key`, None where none has."""
        now, asked = time.monotonic(), (version, key)
        if self._absent.get(asked, now) > now:
            return None
        points, _ = self._index.scroll(
            version, filter={"must_not": [{"is_empty": {"key": key}}]}, limit=_SAMPLE
        )
        values = [value for point in points for value in values_at(point.payload, key)]
        if values:
            return values[0]
        lasting = {known: until for known, until in self._absent.items() if until > now}
        self._absent = {**(lasting if len(lasting) < _MOST else {}), asked: now + _SECONDS}
        return None


def _not_countable(key: str, kind: str) -> RequestError:
    return RequestError(
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

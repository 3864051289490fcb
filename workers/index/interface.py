"""Vectors and payloads behind one interface, whichever engine keeps them.

`server.py` speaks to a Qdrant server. `edge.py` holds qdrant-edge, inside the process that is `store.py`, and
`store_client.py` reaches that process from a worker. Another vector database is one more file here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from shared.contract import SYSTEM_KEY, ModelCard

FieldType = Literal["keyword", "integer", "float", "bool", "datetime", "text", "uuid"]
Filter = dict[str, Any]  # Qdrant's own filter JSON, already validated by the API

# Searches and facets make payload indexes as they need them, and must not grow a collection without bound.
MOST_INDEXES = 256
HASH = f"{SYSTEM_KEY}.sha256"  # there is always room for its index: images could not be removed without it

# One name of a field's path: `a.b`, `tags[]`, `"two words"`.
_STEP = re.compile(r'"([^"]+)"|([^.\[\]"]+)')
_KEY = re.compile(r"(.+)@([1-9][0-9]{0,8})", re.DOTALL)


def version_key(name: str, version: int) -> str:
    """The name of one version of a collection: `shop@2`."""
    return f"{name}@{version}"


def split_key(name: str) -> tuple[str, int | None]:
    """A collection's plain name, and the version that `name` asks for: None where that is the live one."""
    parts = _KEY.fullmatch(name)
    return (parts[1], int(parts[2])) if parts else (name, None)


def values_at(payload: dict[str, Any], field: str) -> list[Any]:
    """An image's values of a field, given as Qdrant's path (`a.b`, `tags[]`, `"two words"`); nulls are none."""
    values: list[Any] = [payload]
    for quoted, plain in _STEP.findall(field):
        name = quoted or plain
        found = [value[name] for value in values if isinstance(value, dict) and name in value]
        values = [member for value in found for member in (value if isinstance(value, list) else [value])]
    return [value for value in values if value is not None]


@dataclass(frozen=True)
class Collection:
    """One version of a collection: a set of images under one model. The live one answers to the plain name."""

    name: str
    version: int
    card: ModelCard
    indexes: dict[str, FieldType] = field(default_factory=dict)
    live: bool = True

    @property
    def key(self) -> str:
        """The name under which this very version is written and asked, whatever becomes of the name meanwhile."""
        return version_key(self.name, self.version)

    def has_room_for(self, fields: Iterable[str]) -> bool:
        """Whether payload indexes of these fields may stand beside those that do."""
        new = set(fields) - self.indexes.keys() - {HASH}
        return not new or len(self.indexes) + len(new) <= MOST_INDEXES


@dataclass(frozen=True)
class Point:
    """An image. `id` is the client's own key, as is `payload["_image"]["id"]`; `vector` float32[dimension]."""

    id: str
    payload: dict[str, Any]
    vector: np.ndarray | None = None


@dataclass(frozen=True)
class ScoredPoint:
    """An image with its cosine similarity to the query."""

    id: str
    score: float
    payload: dict[str, Any]


class Index(Protocol):
    """Every method blocks until it is true; writes return only when they are durable.

    A `name` is a collection's plain one, which stands for its live version, or the key of one version (`shop@2`).
    A story resolves it once with `find` and goes on with the key, so that a swap in its middle mixes nothing.
    Every method but `collections`, `find` and `create` raises RequestError(COLLECTION_NOT_FOUND) for a name
    that does not stand. An engine that does not answer raises IndexUnavailable, a filter that it refuses
    RequestError(INVALID_FILTER), and a vector that is not finite or of another dimension ValueError.
    """

    def collections(self) -> list[Collection]:
        """The live versions of all that stand, by name."""
        ...

    def find(self, name: str) -> Collection | None:
        """One; None where it does not stand. It counts nothing, for every search asks."""
        ...

    def versions(self, name: str) -> list[Collection]:
        """Every version of the collection of this plain name, oldest first."""
        ...

    def create(self, name: str, card: ModelCard) -> bool:
        """Make it. False where it stands already with this very model, ModelMismatch where with another.

        A plain name makes version 1 and puts it live; a key (`shop@2`) makes a version of what stands, not live.
        What a key named that was dropped can be made by a higher number alone: ModelMismatch.
        """
        ...

    def go_live(self, name: str, version: int) -> None:
        """Let the plain name stand for this version, in one step. RequestError(INVALID_REQUEST) where it cannot."""
        ...

    def drop(self, name: str) -> None:
        """Every version of a plain name, or the one of a key. RequestError(INVALID_REQUEST) for the live one."""
        ...

    def ensure_indexes(self, name: str, fields: Mapping[str, FieldType]) -> None:
        """Payload indexes, made where none stands. RequestError(INVALID_REQUEST) where another type does."""
        ...

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        """Write whole points, payload included; one that stands is replaced."""
        ...

    def set_payloads(self, name: str, payloads: Mapping[str, dict[str, Any]]) -> None:
        """Replace the whole payload of images (by id); vectors stay. Ids that do not stand are no error."""
        ...

    def retrieve(self, name: str, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Point]:
        """Those of `ids` that stand, by id."""
        ...

    def query(
        self,
        name: str,
        vector: np.ndarray,
        *,
        filter: Filter | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        exact: bool = False,
    ) -> list[ScoredPoint]:
        """Nearest first. Equal scores come in a stable order."""
        ...

    def scroll(
        self,
        name: str,
        *,
        filter: Filter | None = None,
        limit: int = 100,
        cursor: str | None = None,
        vectors: bool = False,
    ) -> tuple[list[Point], str | None]:
        """A page of images, in order of their point ids, and the cursor of the next one, None at the end."""
        ...

    def count(self, name: str, *, filter: Filter | None = None) -> int:
        """Exactly how many."""
        ...

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Ids that do not stand are no error."""
        ...

    def facet(
        self, name: str, key: str, *, filter: Filter | None = None, limit: int = 20
    ) -> list[tuple[Any, int]]:
        """The values of a field and how many images have each, most first. It is indexed as by `index_values`."""
        ...

    def index_values(self, name: str, key: str) -> bool:
        """Make the payload index by which a field's values are told apart and counted, if none stands.

        False where no image has the field, which may be some seconds ago where another process writes.
        RequestError(INVALID_REQUEST) where its values are no words, whole numbers or truth values, and where the
        collection has no room for one more index.
        """
        ...

    def ping(self) -> None:
        """Raise IndexUnavailable unless the engine answers."""
        ...

    def close(self) -> None: ...

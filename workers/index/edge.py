"""qdrant-edge, Qdrant's engine inside this process: a shard for each version of a collection."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from shared.contract import SYSTEM_KEY, ModelCard, point_id
from shared.errors import IndexUnavailable
from workers.index.facets import Facets
from workers.index.filters import edge_filter
from workers.index.folders import Folders
from workers.index.interface import (
    Collection,
    FieldType,
    Filter,
    Point,
    ScoredPoint,
    split_key,
    version_key,
)
from workers.index.refusals import (
    check_cursor,
    check_model,
    check_name,
    live_version,
    no_collection,
    other_index,
    plain_vector,
    used_number,
)
from workers.index.shard import Shard, fill, load

# A first pass over codes finds so many, and their whole vectors rank them, which takes a fraction of the time at many
# vectors. As many for each page, so that pages join without gap or double.
_CANDIDATES = 1000
_LEAST_OVERSAMPLING = 4.0
_EXACT = edge.SearchParams(exact=True, quantization=edge.QuantizationSearchParams(ignore=True))


class EdgeIndex:
    """The embedded index. One process may own a folder (StartError for a second); its threads share this.

    The engine holds the GIL through every call, so the one lock here costs nothing that was not lost
    already. What is acknowledged is in the engine's write-ahead log and outlives a killed process; `flush`
    shortens the replay at the next start and guards against a power cut.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._folders = Folders(folder)
        self._facets = Facets(self)
        self._shards = {key: load(self._folders.of(key)) for key in self._folders.standing()}

    def collections(self) -> list[Collection]:
        with self._working():
            found = [self.find(name) for name in sorted(self._folders.live)]
        return [collection for collection in found if collection]

    def find(self, name: str) -> Collection | None:
        with self._working():
            key = self._key(name)
            plain, version = split_key(key)
            return self._described(plain, version) if version and key in self._shards else None

    def versions(self, name: str) -> list[Collection]:
        with self._working():
            if name not in self._folders.live:
                raise no_collection(name)
            return [self._described(name, version) for version in self._versions_of(name)]

    def create(self, name: str, card: ModelCard) -> bool:
        plain, version = check_name(name)
        with self._working():
            standing = self.find(name)
            if standing:
                check_model(name, standing.card, card)
                return False
            if version is None:
                self._begin(plain, card)
            elif plain in self._folders.live:
                if version <= self._folders.newest(plain):
                    raise used_number(name)
                self._make(name, card)
            else:
                raise no_collection(plain)
            return True

    def go_live(self, name: str, version: int) -> None:
        with self._using(version_key(name, version)):
            self._folders.go_live(name, version)

    def drop(self, name: str) -> None:
        plain, version = split_key(name)
        with self._using(name):
            live = self._folders.live[plain]
            if version == live:
                raise live_version(name)
            if version is None:
                # The live one last: until it is gone, the collection stands.
                for other in self._versions_of(plain):
                    if other != live:
                        self._remove(version_key(plain, other))
                self._remove(version_key(plain, live))
                self._folders.forget(plain)  # where its folder is gone, nothing that is written counts
            else:
                self._remove(name)

    def ensure_indexes(self, name: str, fields: Mapping[str, FieldType]) -> None:
        with self._using(name) as shard:
            standing = shard.indexes()
            for field, kind in fields.items():
                if field not in standing:
                    shard.make_index(field, kind)
                elif standing[field] != kind:
                    raise other_index(field, standing[field], kind)

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        with self._using(name) as shard:
            written = [_written(point, shard.card.dimension) for point in points]
            shard.engine.update(edge.UpdateOperation.upsert_points(written))
            self._facets.forget()

    def set_payloads(self, name: str, payloads: Mapping[str, dict[str, Any]]) -> None:
        with self._using(name) as shard:
            for id, payload in payloads.items():
                # By filter, because by id the engine fails on an image that was deleted meanwhile.
                chosen = edge.Filter(must=[edge.HasIdCondition({point_id(id)})])
                shard.engine.update(edge.UpdateOperation.overwrite_payload_by_filter(chosen, payload))
            self._facets.forget()

    def retrieve(self, name: str, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Point]:
        with self._using(name) as shard:
            records = shard.engine.retrieve([point_id(id) for id in ids], True, vectors)
        points = [_read(record) for record in records]
        return {point.id: point for point in points}

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
        with self._using(name) as shard:
            request = edge.QueryRequest(
                query=edge.Query.Nearest(plain_vector(vector, shard.card.dimension)),
                filter=edge_filter(filter),
                limit=limit,
                offset=offset,
                score_threshold=score_threshold,
                params=_EXACT if exact else _params(limit + offset),
                with_payload=True,
            )
            found = shard.engine.query(request)
        hits = [_scored(point) for point in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def scroll(
        self,
        name: str,
        *,
        filter: Filter | None = None,
        limit: int = 100,
        cursor: str | None = None,
        vectors: bool = False,
    ) -> tuple[list[Point], str | None]:
        check_cursor(cursor)
        with self._using(name) as shard:
            request = edge.ScrollRequest(
                offset=cursor,
                limit=limit,
                filter=edge_filter(filter),
                with_payload=True,
                with_vector=vectors,
            )
            records, following = shard.engine.scroll(request)
        return [_read(record) for record in records], str(following) if following else None

    def count(self, name: str, *, filter: Filter | None = None) -> int:
        with self._using(name) as shard:
            return shard.engine.count(edge.CountRequest(exact=True, filter=edge_filter(filter)))

    def delete(self, name: str, ids: Sequence[str]) -> None:
        with self._using(name) as shard:
            shard.engine.update(edge.UpdateOperation.delete_points([point_id(id) for id in ids]))

    def facet(
        self, name: str, key: str, *, filter: Filter | None = None, limit: int = 20
    ) -> list[tuple[Any, int]]:
        with self._using(name) as shard:
            if not self.index_values(name, key):
                return []
            request = edge.FacetRequest(key, limit=limit, exact=True, filter=edge_filter(filter))
            return [(hit.value, hit.count) for hit in shard.engine.facet(request).hits]

    def index_values(self, name: str, key: str) -> bool:
        with self._using(name):
            return self._facets.prepare(name, key)

    def ping(self) -> None:
        with self._working():
            pass

    def flush(self) -> None:
        """Write everything through to the disk."""
        with self._working():
            for shard in self._shards.values():
                shard.engine.flush()

    def close(self) -> None:
        """Flush, and let another process have the folder. Every later call raises IndexUnavailable."""
        with self._lock:
            if self._closed:
                return
            self.flush()
            self._closed = True
            for shard in self._shards.values():
                shard.engine.close()
            self._folders.close()

    def _key(self, name: str) -> str:
        live = self._folders.live.get(name)
        return version_key(name, live) if live else name

    def _versions_of(self, name: str) -> list[int]:
        split = map(split_key, self._shards)
        return sorted(version for plain, version in split if plain == name and version)

    def _described(self, name: str, version: int) -> Collection:
        shard = self._shards[version_key(name, version)]
        live = self._folders.live.get(name) == version
        return Collection(name, version, shard.card, shard.indexes(), live)

    def _begin(self, name: str, card: ModelCard) -> None:
        """Version 1, live."""
        first = version_key(name, 1)
        if first in self._shards:  # a full disk kept it from going live
            self._remove(first)
        self._make(first, card)
        self._folders.go_live(name, 1)

    def _make(self, key: str, card: ModelCard) -> None:
        self._folders.make(key, lambda folder: fill(folder, card))
        self._shards[key] = load(self._folders.of(key))

    def _remove(self, key: str) -> None:
        self._folders.remove(key, lambda: self._shards.pop(key).engine.close())

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise IndexUnavailable("The embedded store is closed.")
            try:
                yield
            except Exception as error:
                # The engine's own failures (a full disk, a broken file) are bare Exceptions.
                if type(error) is not Exception and not isinstance(error, OSError):
                    raise
                raise IndexUnavailable(f"The embedded store failed: {error}") from error

    @contextmanager
    def _using(self, name: str) -> Iterator[Shard]:
        with self._working():
            shard = self._shards.get(self._key(name))
            if shard is None:
                raise no_collection(name)
            yield shard


def _params(wanted: int) -> edge.SearchParams:
    """How the nearest `wanted` are found: by codes first, or, where that is many, by whole vectors alone."""
    oversampling = _CANDIDATES / max(wanted, 1)
    if oversampling < _LEAST_OVERSAMPLING:
        return _EXACT
    return edge.SearchParams(
        quantization=edge.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    )


def _written(point: Point, dimension: int) -> edge.Point:
    vector = plain_vector(point.vector, dimension)
    try:
        return edge.Point(point_id(point.id), vector, point.payload)
    except TypeError as error:
        raise ValueError(f"The payload of `{point.id}` is not JSON: {error}") from error


def _read(record: edge.Record) -> Point:
    payload = record.payload or {}
    vector = None if record.vector is None else np.asarray(record.vector, dtype=np.float32)
    return Point(payload[SYSTEM_KEY]["id"], payload, vector)


def _scored(point: edge.ScoredPoint) -> ScoredPoint:
    payload = point.payload or {}
    return ScoredPoint(payload[SYSTEM_KEY]["id"], point.score, payload)

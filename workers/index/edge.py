"""qdrant-edge, Qdrant's engine inside this process: a folder a collection, with its shard and model card."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import qdrant_edge as edge

from shared.contract import SYSTEM_KEY, ModelCard, point_id
from shared.errors import IndexUnavailable, RequestCode, RequestError, StartError
from workers.index.facets import prepare_facet
from workers.index.filters import edge_filter
from workers.index.interface import Collection, FieldType, Filter, Point, ScoredPoint
from workers.index.refusals import (
    check_cursor,
    check_model,
    check_name,
    no_collection,
    other_index,
    plain_vector,
)

_CARD = "card.json"
_SHARD = "shard"
_UNBORN = ".new-"
_DROPPED = ".old-"

# HNSW links for each value of a number or a bool cost much and help no search.
_SCHEMAS: dict[FieldType, Any] = {
    "keyword": edge.KeywordIndexParams(),
    "integer": edge.IntegerIndexParams(lookup=True, range=True, enable_hnsw=False),
    "float": edge.FloatIndexParams(enable_hnsw=False),
    "bool": edge.BoolIndexParams(enable_hnsw=False),
    "datetime": edge.DatetimeIndexParams(enable_hnsw=False),
    "text": edge.TextIndexParams(tokenizer=edge.TokenizerType.Word, lowercase=True, phrase_matching=True),
    "uuid": edge.UuidIndexParams(),
}

# A first pass over codes of four bits a number finds so many, and their whole vectors rank them, which takes a
# fraction of the time at many vectors. As many for each page, so that pages join without gap or double.
_CODES = edge.TurboQuantQuantizationConfig(always_ram=True)
_CANDIDATES = 1000
_LEAST_OVERSAMPLING = 4.0
_EXACT = edge.SearchParams(exact=True, quantization=edge.QuantizationSearchParams(ignore=True))


@dataclass(frozen=True)
class _Stored:
    card: ModelCard
    shard: edge.EdgeShard

    def indexes(self) -> dict[str, FieldType]:
        schema = self.shard.info().payload_schema
        return {
            field: cast(FieldType, str(index.data_type).rpartition(".")[2].lower())
            for field, index in schema.items()
        }

    def described(self, name: str) -> Collection:
        return Collection(name, self.card, self.indexes())


class EdgeIndex:
    """The embedded index. One process may own a folder (StartError for a second); its threads share this.

    The engine holds the GIL through every call, so the one lock here costs nothing that was not lost
    already. What is acknowledged is in the engine's write-ahead log and outlives a killed process; `flush`
    shortens the replay at the next start and guards against a power cut.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = _claim(folder)
        _sweep(folder)
        self._stored = {path.parent.name: _load(path.parent) for path in folder.glob(f"*/{_CARD}")}

    def collections(self) -> list[Collection]:
        with self._working():
            return [stored.described(name) for name, stored in sorted(self._stored.items())]

    def find(self, name: str) -> Collection | None:
        with self._working():
            stored = self._stored.get(name)
            return stored.described(name) if stored else None

    def create(self, name: str, card: ModelCard) -> bool:
        check_name(name)
        with self._working():
            if name in self._stored:
                check_model(name, self._stored[name].card, card)
                return False
            self._stored[name] = _make(self._folder / name, card)
            return True

    def drop(self, name: str) -> None:
        with self._using(name) as stored:
            dropped = tempfile.mkdtemp(prefix=_DROPPED, dir=self._folder)  # what may fail comes first
            stored.shard.close()
            del self._stored[name]
            shutil.rmtree((self._folder / name).rename(dropped))

    def ensure_indexes(self, name: str, fields: Mapping[str, FieldType]) -> None:
        with self._using(name) as stored:
            standing = stored.indexes()
            for field, kind in fields.items():
                if field not in standing:
                    _make_index(stored.shard, field, kind)
                elif standing[field] != kind:
                    raise other_index(field, standing[field], kind)

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        with self._using(name) as stored:
            written = [_written(point, stored.card.dimension) for point in points]
            stored.shard.update(edge.UpdateOperation.upsert_points(written))

    def set_payloads(self, name: str, payloads: Mapping[str, dict[str, Any]]) -> None:
        with self._using(name) as stored:
            for id, payload in payloads.items():
                # By filter, because by id the engine fails on an image that was deleted meanwhile.
                chosen = edge.Filter(must=[edge.HasIdCondition({point_id(id)})])
                stored.shard.update(edge.UpdateOperation.overwrite_payload_by_filter(chosen, payload))

    def retrieve(self, name: str, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Point]:
        with self._using(name) as stored:
            records = stored.shard.retrieve([point_id(id) for id in ids], True, vectors)
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
        with self._using(name) as stored:
            request = edge.QueryRequest(
                query=edge.Query.Nearest(plain_vector(vector, stored.card.dimension)),
                filter=edge_filter(filter),
                limit=limit,
                offset=offset,
                score_threshold=score_threshold,
                params=_EXACT if exact else _params(limit + offset),
                with_payload=True,
            )
            found = stored.shard.query(request)
        hits = [_scored(point) for point in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def scroll(
        self, name: str, *, filter: Filter | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Point], str | None]:
        check_cursor(cursor)
        with self._using(name) as stored:
            records, following = stored.shard.scroll(
                edge.ScrollRequest(offset=cursor, limit=limit, filter=edge_filter(filter), with_payload=True)
            )
        return [_read(record) for record in records], str(following) if following else None

    def count(self, name: str, *, filter: Filter | None = None) -> int:
        with self._using(name) as stored:
            return stored.shard.count(edge.CountRequest(exact=True, filter=edge_filter(filter)))

    def delete(self, name: str, ids: Sequence[str]) -> None:
        with self._using(name) as stored:
            stored.shard.update(edge.UpdateOperation.delete_points([point_id(id) for id in ids]))

    def facet(
        self, name: str, key: str, *, filter: Filter | None = None, limit: int = 20
    ) -> list[tuple[Any, int]]:
        with self._using(name) as stored:
            if not prepare_facet(self, name, key):
                return []
            request = edge.FacetRequest(key, limit=limit, exact=True, filter=edge_filter(filter))
            return [(hit.value, hit.count) for hit in stored.shard.facet(request).hits]

    def ping(self) -> None:
        with self._working():
            pass

    def flush(self) -> None:
        """Write everything through to the disk."""
        with self._working():
            for stored in self._stored.values():
                stored.shard.flush()

    def close(self) -> None:
        """Flush, and let another process have the folder. Every later call raises IndexUnavailable."""
        with self._lock:
            if self._closed:
                return
            self.flush()
            self._closed = True
            for stored in self._stored.values():
                stored.shard.close()
            self._claim.close()

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
    def _using(self, name: str) -> Iterator[_Stored]:
        with self._working():
            if name not in self._stored:
                raise no_collection(name)
            yield self._stored[name]


def _claim(folder: Path) -> TextIO:
    """Hold the folder until the file is closed or the process dies."""
    claim = (folder / ".lock").open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        claim.close()
        raise StartError(
            f"Another process uses the store in {folder}; stop it, or give another folder."
        ) from error
    return claim


def _sweep(folder: Path) -> None:
    """Remove what a process left that died while it made or dropped a collection."""
    for prefix in (_UNBORN, _DROPPED):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path)


def _config(card: ModelCard) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=card.dimension, distance=edge.Distance.Cosine, quantization_config=_CODES
        )
    )


def _params(wanted: int) -> edge.SearchParams:
    """How the nearest `wanted` are found: by codes first, or, where that is many, by whole vectors alone."""
    oversampling = _CANDIDATES / max(wanted, 1)
    if oversampling < _LEAST_OVERSAMPLING:
        return _EXACT
    return edge.SearchParams(
        quantization=edge.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    )


def _make(folder: Path, card: ModelCard) -> _Stored:
    """Made whole under another name first, so that a crash leaves no half collection."""
    unborn = Path(tempfile.mkdtemp(prefix=_UNBORN, dir=folder.parent))
    try:
        edge.EdgeShard.create(str(unborn / _SHARD), _config(card)).close()
        (unborn / _CARD).write_text(card.model_dump_json())
        unborn.rename(folder)
    except Exception:
        shutil.rmtree(unborn, ignore_errors=True)
        raise
    return _load(folder)


def _load(folder: Path) -> _Stored:
    try:
        card = ModelCard.model_validate_json((folder / _CARD).read_bytes())
        return _Stored(card, edge.EdgeShard.load(str(folder / _SHARD), _config(card)))
    except Exception as error:
        raise StartError(
            f"Collection `{folder.name}` cannot be opened: {error}. "
            f"Bring {folder} back from a copy, or move it away to start without that collection."
        ) from error


def _make_index(shard: edge.EdgeShard, field: str, kind: FieldType) -> None:
    try:
        shard.update(edge.UpdateOperation.create_field_index(field, _SCHEMAS[kind]))
    except ValueError as error:
        raise RequestError(
            RequestCode.INVALID_REQUEST, f"Field `{field}` cannot be indexed: {error}."
        ) from error


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

"""Items that are brought to where they can be written: fetched or read, decoded and lined up for the model."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from shared.contract import SYSTEM_KEY, Item
from shared.errors import FailureCode, ItemError
from workers.fetch import Known
from workers.index.interface import Collection, Point
from workers.models import Model
from workers.parts import Parts

# By what a server calls the bytes it can say later that they are the same, at the place that they came from.
_NAMES = ("etag", "last_modified", "fetched_from")


@dataclass(frozen=True)
class Prepared:
    """An item that can be written. `system` is what `_image` says of its bytes.

    `vector` is None where the image stands already: then `system` is all that `_image` says, brought up to date.
    `thumbnail` is one that is yet to be kept.
    """

    item: Item
    system: dict[str, Any]
    vector: Future[np.ndarray] | None = None
    thumbnail: bytes | None = None


class Facts(BaseModel):
    """What an item that brings no bytes may say of them; whatever else stood in its `image` is passed over."""

    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    width: int | None = Field(None, ge=1, lt=2**31)
    height: int | None = Field(None, ge=1, lt=2**31)
    format: str | None = Field(None, max_length=32)
    bytes: int | None = Field(None, ge=0, lt=2**63)


class Preparation:
    """Prepares the items of one collection, on any thread."""

    def __init__(self, collection: Collection, model: Model, parts: Parts) -> None:
        self._collection = collection
        self._model = model
        self._fetcher = parts.fetcher
        self._uploads = parts.uploads
        self._thumbnails = parts.thumbnails
        self._makes_thumbnails = parts.settings.thumbnails

    def of(self, item: Item, standing: Point | None) -> Prepared | ItemError:
        """The item, ready; or what is wrong with it. `standing` is the image that has its id."""
        before = standing.payload[SYSTEM_KEY] if standing else {}
        try:
            if item.refused:
                raise ItemError(item.refused.code, item.refused.detail)
            if item.vector is not None:
                return self._with_its_vector(item, item.vector, before)
            if item.url is not None:
                return self._fetched(item, item.url, before)
            if item.thumbnail is not None:
                return self._as_thumbnail(item, item.thumbnail, before)
            return self._read(item, self._uploaded(item), before)
        except ItemError as error:
            return error

    def _fetched(self, item: Item, url: str, before: dict[str, Any]) -> Prepared:
        fetched = self._fetcher.fetch(url, self._known(url, before))
        if fetched.unchanged:
            return Prepared(item, before)
        names = {"etag": fetched.etag, "last_modified": fetched.last_modified}
        if any(names.values()):
            names["fetched_from"] = fetched.place
        return self._read(item, fetched.data, before, names)

    def _known(self, url: str, before: dict[str, Any]) -> Known | None:
        """What stands of this URL, where nothing new would come of its bytes."""
        if before.get("url") != url or not self._is_ours(before) or self._lacks_thumbnail(before):
            return None
        return Known(before.get("fetched_from", ""), before.get("etag"), before.get("last_modified"))

    def _uploaded(self, item: Item) -> bytes:
        data = self._uploads.read(item.upload or "")
        if data is None:
            raise ItemError(
                FailureCode.EMPTY,
                "The picture's bytes are no longer kept; upload the file again, or import it again.",
            )
        return data

    def _read(
        self,
        item: Item,
        data: bytes | bytearray,
        before: dict[str, Any],
        names: dict[str, str | None] | None = None,
    ) -> Prepared:
        """An item whose bytes are here, and what its server calls them."""
        called = {name: said for name, said in (names or {}).items() if said}
        sha256 = hashlib.sha256(data).hexdigest()
        if self._stands(before, sha256):
            return self._unchanged(item, data, _unnamed(before) | called)
        picture, vector = self._model.line_up(data, thumbnail=self._makes_thumbnails)
        system = {
            "sha256": sha256,
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "bytes": len(data),
        }
        kept = {"thumbnail": True} if picture.thumbnail else {}
        return Prepared(item, system | called | kept, vector, picture.thumbnail)

    def _unchanged(self, item: Item, data: bytes | bytearray, system: dict[str, Any]) -> Prepared:
        if self._lacks_thumbnail(system):
            with suppress(ItemError):  # the image stands all the same
                picture = self._model.decoders.decode(data, thumbnail=True)
                picture.let_go()
                return Prepared(item, system | {"thumbnail": True}, thumbnail=picture.thumbnail)
        return Prepared(item, system)

    def _as_thumbnail(self, item: Item, sha256: str, before: dict[str, Any]) -> Prepared:
        """An image whose bytes are gone: its kept thumbnail is embedded."""
        if self._stands(before, sha256):
            return Prepared(item, _still_named(before, item))
        data = self._thumbnails.read(self._collection.name, sha256) if self._thumbnails else None
        if data is None:
            raise ItemError(
                FailureCode.EMPTY,
                "The image has no URL, and no thumbnail of it is kept here; send it again.",
            )
        _, vector = self._model.line_up(data)
        return Prepared(item, _facts(item) | {"sha256": sha256, "thumbnail": True}, vector)

    def _with_its_vector(self, item: Item, encoded: str, before: dict[str, Any]) -> Prepared:
        """An image that was embedded elsewhere by this very model."""
        self._check_maker(item)
        values = _floats(encoded, self._collection.card.dimension)
        # Where nothing is known of the bytes, the vector's own hash tells whether the same stands already.
        system = {"sha256": hashlib.sha256(values.tobytes()).hexdigest()} | _facts(item)
        if self._stands(before, system["sha256"]):
            return Prepared(item, _still_named(before, item))
        vector: Future[np.ndarray] = Future()
        vector.set_result(values)
        return Prepared(item, system, vector)

    def _check_maker(self, item: Item) -> None:
        maker = item.fingerprint or (item.image or {}).get("model")
        ours = self._collection.card.fingerprint
        if maker != ours:
            who = f"was made by `{str(maker)[:200]}`" if maker else "does not say which model made it"
            raise ItemError(
                FailureCode.PAYLOAD_INVALID,
                f"The vector {who} (`fingerprint`), and collection `{self._collection.name}` stands under `{ours}`; "
                "vectors of two models cannot be compared.",
            )

    def _stands(self, before: dict[str, Any], sha256: str) -> bool:
        return before.get("sha256") == sha256 and self._is_ours(before)

    def _is_ours(self, before: dict[str, Any]) -> bool:
        return before.get("model") == self._collection.card.fingerprint

    def _lacks_thumbnail(self, before: dict[str, Any]) -> bool:
        return self._makes_thumbnails and not before.get("thumbnail")


def _unnamed(system: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in system.items() if field not in _NAMES}


def _still_named(before: dict[str, Any], item: Item) -> dict[str, Any]:
    """What stands. What its server called the bytes holds for that URL alone."""
    return before if before.get("url") == item.url else _unnamed(before)


def _facts(item: Item) -> dict[str, Any]:
    try:
        return Facts.model_validate(item.image or {}).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ItemError(
            FailureCode.PAYLOAD_INVALID,
            f"`image.{first['loc'][0]}` is not what an image has there: {first['msg']}.",
        ) from error


def _floats(encoded: str, dimension: int) -> np.ndarray:
    """float32 [dimension], not all zero. What has length 1 already stays as it is, bit for bit."""
    try:
        values = np.frombuffer(b64decode(encoded, validate=True), "<f4").astype(np.float32)
    except ValueError as error:
        raise ItemError(
            FailureCode.PAYLOAD_INVALID, f"`vector` is not base64 of float32 numbers: {error}."
        ) from error
    length = float(np.linalg.norm(values.astype(np.float64)))
    if values.shape != (dimension,) or not 0 < length < np.inf:
        raise ItemError(
            FailureCode.PAYLOAD_INVALID,
            f"`vector` must be {dimension} finite numbers, not all zero, for this collection; it has {len(values)}.",
        )
    return values if abs(length - 1) < 1e-5 else (values / length).astype(np.float32)

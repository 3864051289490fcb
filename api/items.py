"""A client's object → one item. What may stand in an item: shared/items.py."""

from __future__ import annotations

import math
import struct
from base64 import b64decode, b64encode
from typing import Any

from api import limits
from api.problems import not_built
from shared.contract import MAX_ID_LENGTH, Item
from shared.errors import RequestCode, RequestError
from shared.items import checked_item, id_refusal, payload_invalid, payload_refusal

_FIELDS = frozenset({"id", "url", "payload", "vector", "image", "fingerprint"})
_IMAGE_FACTS = (
    "sha256",
    "width",
    "height",
    "format",
    "bytes",
    "model",
)  # that an exported image may bring back
_FLOAT_BYTES = 4


def item_from(raw: Any, place: str, number: int) -> Item:
    """The item that a client's object stands for. RequestError(INVALID_ITEM) where it is no item at all.

    `place` and `number` say where it stood: "Line", 3.
    """
    if not isinstance(raw, dict):
        raise not_an_item(place, number, 'it must be an object such as {"url": "https://…"}')
    if not raw.keys() <= _FIELDS:
        unknown = min(raw.keys() - _FIELDS)
        if unknown == "callback_url":
            raise not_built(unknown)
        raise not_an_item(
            place,
            number,
            f"`{unknown[:100]}` is not a field of an item; the client's own fields go in `payload`",
        )
    if isinstance(raw.get("url"), str):
        item = checked_item(raw["url"], raw.get("id"), raw.get("payload"))
    elif raw.get("url") is None and _stands_alone(raw):
        item = _item_without_url(raw["id"], raw.get("payload"))
    elif "url" in raw:
        raise not_an_item(place, number, "`url` must be a string")
    else:
        raise not_an_item(
            place, number, "its `url` is missing; only an item with an `id` and a `vector` needs none"
        )
    return _with_vector(item, raw)


def _stands_alone(raw: dict[str, Any]) -> bool:
    return isinstance(raw.get("id"), str) and bool(raw["id"]) and raw.get("vector") is not None


def _item_without_url(id: str, payload: Any) -> Item:
    refusal = id_refusal(id) or payload_refusal(payload)
    return Item(id=id[:MAX_ID_LENGTH], payload={} if refusal else payload or {}, refused=refusal)


def _with_vector(item: Item, raw: dict[str, Any]) -> Item:
    """The item with what it brings from an export; a refused one where that cannot be used."""
    vector, image, fingerprint = (raw.get(field) for field in ("vector", "image", "fingerprint"))
    if item.refused or (vector, image, fingerprint) == (None, None, None):
        return item
    try:
        brought = {
            "vector": _encoded(vector),
            "image": _facts(image),
            "fingerprint": _text(fingerprint),
        }
    except ValueError as error:
        return item.model_copy(update={"payload": {}, "refused": payload_invalid(str(error))})
    return item.model_copy(update=brought)


def _encoded(vector: Any) -> str:
    """A list of numbers, or base64 of little-endian float32 already, as base64. ValueError says what is wrong."""
    if vector is None:
        raise ValueError("`image` and `fingerprint` tell of a `vector`, and there is none.")
    try:
        data = b64decode(vector, validate=True) if isinstance(vector, str) else _packed(vector)
    except (ValueError, struct.error, OverflowError) as error:
        raise ValueError(
            "`vector` must be a list of finite numbers, or base64 of little-endian float32."
        ) from error
    if not data or len(data) % _FLOAT_BYTES or len(data) > _FLOAT_BYTES * limits.MAX_VECTOR_LENGTH:
        raise ValueError(f"`vector` must have 1 to {limits.MAX_VECTOR_LENGTH:,} float32 numbers.")
    return b64encode(data).decode()


def _packed(values: Any) -> bytes:
    if not isinstance(values, list):
        raise ValueError("no list")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError("no number")
    return struct.pack(f"<{len(values)}f", *values)


def _facts(image: Any) -> dict[str, Any] | None:
    if image is not None and not isinstance(image, dict):
        raise ValueError("`image` must be an object, the `_image` of an exported image.")
    return {field: image[field] for field in _IMAGE_FACTS if field in image} if image else None


def _text(fingerprint: Any) -> str | None:
    if fingerprint is not None and not (
        isinstance(fingerprint, str) and len(fingerprint) <= limits.MAX_MODEL_LENGTH
    ):
        raise ValueError(f"`fingerprint` must be a string of at most {limits.MAX_MODEL_LENGTH} characters.")
    return fingerprint


def not_an_item(place: str, number: int, why: str) -> RequestError:
    """The refusal of a whole body for the sake of one of its items."""
    return RequestError(RequestCode.INVALID_ITEM, f"{place} {number:,}: {why}.")

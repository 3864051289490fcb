"""Collections and their images, as the API hands them out. No Celery here."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shared.contract import SYSTEM_KEY, ModelCard
from shared.errors import ModelMismatch, RequestCode, RequestError
from shared.thumbnails import Thumbnails, thumbnail_path
from workers.index.interface import Collection, FieldType, Filter, Index, Point, split_key
from workers.index.refusals import no_collection, no_image
from workers.removal import remove


def get(index: Index, name: str) -> dict[str, Any]:
    """One collection; RequestError(COLLECTION_NOT_FOUND) where it does not stand."""
    collection = index.find(name)
    if collection is None:
        raise no_collection(name)
    return describe(index, collection)


def find_or_make(index: Index, name: str, card: ModelCard) -> Collection:
    """A collection as it stands, whatever its model, or a new one under `card`.

    One version is never made here (COLLECTION_NOT_FOUND). ModelMismatch of a name that others use in Qdrant.
    """
    while (collection := index.find(name)) is None:
        if split_key(name)[1]:
            raise no_collection(name)
        try:
            index.create(name, card)
        except ModelMismatch:
            if index.find(name) is None:  # it is not that another worker made it just now
                raise
    return collection


def still_stands_for(index: Index, name: str, collection: Collection) -> bool:
    """Whether `name` has not come to stand for another version, since it was found to stand for this one."""
    found = index.find(name)
    return found is None or found.key == collection.key


def list_all(index: Index) -> list[dict[str, Any]]:
    """Every collection, by name."""
    listed = []
    for collection in index.collections():
        with suppress(RequestError):  # dropped between the two questions
            listed.append(describe(index, collection))
    return listed


def put(
    index: Index,
    card_of: Callable[[str | None], ModelCard],
    name: str,
    model: str | None,
    indexes: dict[str, FieldType],
) -> dict[str, Any]:
    """Make a collection under `model` (None: the worker's own), or find that the same stands already.

    `card_of` is `Models.card_of`, and raises as it does.
    """
    standing = index.find(name)
    if standing and model not in (None, standing.card.name):
        raise RequestError(
            RequestCode.MODEL_CONFLICT,
            f"Collection `{name}` stands under `{standing.card.name}`, not under `{model}`. Vectors of two models "
            "cannot be compared: take another name, or delete the collection first.",
        )
    try:
        created = not standing and index.create(name, card_of(model))
    except ModelMismatch as error:
        raise RequestError(RequestCode.MODEL_CONFLICT, str(error)) from error
    if indexes:
        index.ensure_indexes(name, indexes)
    return {"created": created, "collection": get(index, name)}


def describe(index: Index, collection: Collection) -> dict[str, Any]:
    """One version of a collection in the words of the HTTP contract."""
    return {
        "name": collection.name,
        "version": collection.version,
        "live": collection.live,
        "model": collection.card.name,
        "revision": collection.card.revision,
        "preprocessing": collection.card.preprocessing,
        "dimension": collection.card.dimension,
        "distance": "cosine",
        "images": index.count(collection.key),
        "indexes": collection.indexes,
    }


def facets(index: Index, name: str, field: str, filter: Filter | None, limit: int) -> dict[str, Any]:
    """The values of a field with how many images have each, most first."""
    counts = index.facet(name, field, filter=filter, limit=limit)
    return {"values": [{"value": value, "count": count} for value, count in counts]}


def images(
    index: Index, name: str, filter: Filter | None, limit: int, cursor: str | None, *, vectors: bool = False
) -> dict[str, Any]:
    """A page of images and the next page's cursor. With `vectors`, base64 of each one's little-endian float32."""
    points, next_cursor = index.scroll(name, filter=filter, limit=limit, cursor=cursor, vectors=vectors)
    return {"images": [_image(name, point) for point in points], "next_cursor": next_cursor}


def image(index: Index, name: str, id: str) -> dict[str, Any]:
    """One image; RequestError(IMAGE_NOT_FOUND) where it does not stand."""
    point = index.retrieve(name, [id]).get(id)
    if point is None:
        raise no_image(name, id)
    return _image(name, point)


def remove_image(index: Index, thumbnails: Thumbnails | None, name: str, id: str) -> None:
    """Delete one image; RequestError(IMAGE_NOT_FOUND) where it does not stand."""
    image(index, name, id)
    remove(index, thumbnails, name, [id])


def drop(index: Index, thumbnails: Thumbnails | None, name: str) -> None:
    """Delete a collection with all that was kept of it; RequestError(COLLECTION_NOT_FOUND)."""
    index.drop(name)
    if thumbnails:
        thumbnails.delete_all(name)


def _image(name: str, point: Point) -> dict[str, Any]:
    shown = {
        "id": point.id,
        "url": point.payload[SYSTEM_KEY].get("url"),
        "payload": point.payload,
        "thumbnail": thumbnail_path(name, point.id, point.payload),
    }
    if point.vector is None:
        return shown
    return shown | {"vector": b64encode(point.vector.astype("<f4").tobytes()).decode()}

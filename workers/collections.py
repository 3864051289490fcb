"""Collections and their images, as the API hands them out. No Celery here."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from shared.contract import SYSTEM_KEY, ModelCard
from shared.errors import ModelMismatch, RequestCode, RequestError
from workers.index.interface import Collection, FieldType, Filter, Index, Point
from workers.index.refusals import no_collection, no_image


def get(index: Index, name: str) -> dict[str, Any]:
    """One collection; RequestError(COLLECTION_NOT_FOUND) where it does not stand."""
    collection = index.find(name)
    if collection is None:
        raise no_collection(name)
    return _describe(index, collection)


def find_or_make(index: Index, name: str, card: ModelCard) -> Collection:
    """A collection as it stands, whatever its model, or a new one under `card`."""
    collection = index.find(name)
    while collection is None:
        with suppress(ModelMismatch):  # another worker made it just now
            index.create(name, card)
        collection = index.find(name)
    return collection


def list_all(index: Index) -> list[dict[str, Any]]:
    """Every collection, by name."""
    listed = []
    for collection in index.collections():
        with suppress(RequestError):  # dropped between the two questions
            listed.append(_describe(index, collection))
    return listed


def put(
    index: Index, card: ModelCard, name: str, model: str | None, indexes: dict[str, FieldType]
) -> dict[str, Any]:
    """Make a collection under `model` (None: this worker's), or find that the same stands already."""
    standing = index.find(name)
    if standing and model not in (None, standing.card.name):
        raise RequestError(
            RequestCode.MODEL_CONFLICT,
            f"Collection `{name}` stands under `{standing.card.name}`, not under `{model}`. Vectors of two models "
            "cannot be compared: take another name, or delete the collection first.",
        )
    if not standing and model not in (None, card.name):
        raise RequestError(
            RequestCode.MODEL_UNAVAILABLE,
            f"No worker here runs `{model}`; they run `{card.name}`. Start the workers with LOOKALIKE_MODEL={model}.",
        )
    try:
        created = not standing and index.create(name, card)
    except ModelMismatch as error:
        raise RequestError(RequestCode.MODEL_CONFLICT, str(error)) from error
    if indexes:
        index.ensure_indexes(name, indexes)
    return {"created": created, "collection": get(index, name)}


def _describe(index: Index, collection: Collection) -> dict[str, Any]:
    """A collection in the words of the HTTP contract."""
    return {
        "name": collection.name,
        "model": collection.card.name,
        "revision": collection.card.revision,
        "preprocessing": collection.card.preprocessing,
        "dimension": collection.card.dimension,
        "distance": "cosine",
        "images": index.count(collection.name),
        "indexes": collection.indexes,
    }


def facets(index: Index, name: str, field: str, filter: Filter | None, limit: int) -> dict[str, Any]:
    """The values of a field with how many images have each, most first."""
    counts = index.facet(name, field, filter=filter, limit=limit)
    return {"values": [{"value": value, "count": count} for value, count in counts]}


def images(index: Index, name: str, filter: Filter | None, limit: int, cursor: str | None) -> dict[str, Any]:
    """A page of images and the next page's cursor."""
    points, next_cursor = index.scroll(name, filter=filter, limit=limit, cursor=cursor)
    return {"images": [_image(point) for point in points], "next_cursor": next_cursor}


def image(index: Index, name: str, id: str) -> dict[str, Any]:
    """One image; RequestError(IMAGE_NOT_FOUND) where it does not stand."""
    point = index.retrieve(name, [id]).get(id)
    if point is None:
        raise no_image(name, id)
    return _image(point)


def remove_image(index: Index, name: str, id: str) -> None:
    """Delete one image; RequestError(IMAGE_NOT_FOUND) where it does not stand."""
    image(index, name, id)
    index.delete(name, [id])


def _image(point: Point) -> dict[str, Any]:
    return {"id": point.id, "url": point.payload[SYSTEM_KEY].get("url"), "payload": point.payload}

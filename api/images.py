"""Images: upload files to be indexed; read, thumbnail and delete what is indexed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from flask import Blueprint
from werkzeug.datastructures import FileStorage

from api import arguments
from api.body import read_images, read_part, refuse_idempotency_key, refuse_other_parts
from api.items import payload_refusal
from api.parts import ask, parts
from api.submission import accept, accepted
from shared.contract import DELETE_IMAGE, GET_IMAGE, LIST_IMAGES, Item
from shared.errors import RequestCode, RequestError

images = Blueprint("images", __name__)


@images.post("/v1/collections/<name>/images")
def upload(name: str) -> Any:
    arguments.collection_name(name)
    refuse_idempotency_key()
    files = read_images(parts().settings)
    refuse_other_parts("image", "payload")
    return accepted(accept(name, _items(files, _payloads(read_part("payload"), len(files)))))


@images.get("/v1/collections/<name>/images")
def list_all(name: str) -> Any:
    arguments.collection_name(name)
    page = (arguments.filter_argument(), arguments.limit(), arguments.cursor())
    return ask(LIST_IMAGES, name, *page)


@images.get("/v1/collections/<name>/images/<whole:id>")
def get(name: str, id: str) -> Any:
    return ask(GET_IMAGE, arguments.collection_name(name), id)


@images.delete("/v1/collections/<name>/images/<whole:id>")
def delete(name: str, id: str) -> Any:
    ask(DELETE_IMAGE, arguments.collection_name(name), id)
    return "", 204


@images.get("/v1/collections/<name>/images/<whole:id>/thumbnail")
def thumbnail(name: str, id: str) -> Any:
    arguments.collection_name(name)
    raise RequestError(RequestCode.NOT_FOUND, f"No thumbnail is kept of image `{id[:200]}`.")


def _payloads(given: Any, count: int) -> list[Any]:
    """One payload for each image."""
    if not isinstance(given, list):
        return [given] * count
    if len(given) != count:
        raise RequestError(
            RequestCode.INVALID_ITEM,
            f"`payload` lists {len(given):,} payloads for {count:,} images; one each, in order.",
        )
    return given


def _items(files: list[FileStorage], payloads: list[Any]) -> Iterator[Item]:
    for file, payload in zip(files, payloads, strict=True):
        data = file.read()
        if refusal := payload_refusal(payload):
            yield Item(id=f"sha256:{hashlib.sha256(data).hexdigest()}", refused=refusal)
        else:
            sha256 = parts().uploads.park_for_ingest(data)
            yield Item(id=f"sha256:{sha256}", upload=sha256, payload=payload or {})

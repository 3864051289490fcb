"""Images: upload files to be indexed; read, thumbnail and delete what is indexed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from flask import Blueprint, Response, request
from werkzeug.datastructures import FileStorage

from api import arguments
from api.admission import check_memory
from api.body import read_images, read_part, refuse_other_parts
from api.parts import ask, parts
from api.submission import accept, accepted
from shared.contract import DELETE_IMAGE, GET_IMAGE, LIST_IMAGES, SYSTEM_KEY, Item
from shared.errors import RequestCode, RequestError
from shared.items import payload_refusal
from shared.thumbnails import Thumbnails

images = Blueprint("images", __name__)

# A day, for what is deleted shall not stand in browsers for ever.
_LASTING = "private, max-age=86400, immutable"


@images.post("/v1/collections/<name>/images")
def upload(name: str) -> Any:
    arguments.collection_name(name)
    files = read_images(parts().settings)
    refuse_other_parts("image", "payload")
    pictures = Pictures(files)
    items = pictures.items(_payloads(read_part("payload"), len(files)))
    return accepted(accept(name, items, keep=pictures.parked))


@images.get("/v1/collections/<name>/images")
def list_all(name: str) -> Any:
    arguments.collection_key(name)
    page = (arguments.filter_argument(), arguments.limit(), arguments.cursor(), arguments.flag("vectors"))
    return ask(LIST_IMAGES, name, *page)


@images.get("/v1/collections/<name>/images/<whole:id>")
def get(name: str, id: str) -> Any:
    return ask(GET_IMAGE, arguments.collection_key(name), id)


@images.delete("/v1/collections/<name>/images/<whole:id>")
def delete(name: str, id: str) -> Any:
    ask(DELETE_IMAGE, arguments.collection_name(name), id)
    return "", 204


@images.get("/v1/collections/<name>/images/<whole:id>/thumbnail")
def thumbnail(name: str, id: str) -> Any:
    """A small WebP of the picture, to be kept by the client that sees it and by nobody between.

    Asked for by what it shows (`?of=`, as in every `thumbnail` that an answer names) it never changes; else whoever
    has it asks again with its ETag.
    """
    system = ask(GET_IMAGE, arguments.collection_key(name), id)["payload"][SYSTEM_KEY]
    files, data = parts().files, None
    if files and system.get("thumbnail"):
        data = Thumbnails(files).read(name.partition("@")[0], system["sha256"])
    if data is None:
        raise RequestError(RequestCode.NOT_FOUND, f"No thumbnail is kept of image `{id[:200]}`.")
    response = Response(data, mimetype="image/webp")
    lasting = request.args.get("of") == system["sha256"][:16]
    response.headers["Cache-Control"] = _LASTING if lasting else "private, no-cache"
    response.add_etag()
    return response.make_conditional(request)


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


class Pictures:
    """The files of one upload: their items, and their bytes while a chunk of them is accepted."""

    def __init__(self, files: list[FileStorage]) -> None:
        self._files = files
        self._of_hash: dict[str, FileStorage] = {}

    def items(self, payloads: list[Any]) -> Iterator[Item]:
        """An item for each file; nothing is parked yet."""
        for file, payload in zip(self._files, payloads, strict=True):
            sha256 = hashlib.sha256(_bytes(file)).hexdigest()
            id = f"sha256:{sha256}"
            if refusal := payload_refusal(payload):
                yield Item(id=id, refused=refusal)
            else:
                self._of_hash[sha256] = file
                yield Item(id=id, upload=sha256, payload=payload or {})

    @contextmanager
    def parked(self, chunk: list[Item]) -> Iterator[None]:
        """The chunk's bytes stand in Redis for its workers. Where it is refused inside, they are let go."""
        parked: list[str] = []
        try:
            for sha256 in (item.upload for item in chunk if item.upload):
                check_memory()
                parked.append(parts().uploads.park_for_ingest(_bytes(self._of_hash[sha256])))
            yield
        except (redis.ConnectionError, redis.TimeoutError):
            raise  # the chunk may have been accepted, and need them
        except Exception:
            with contextlib.suppress(redis.RedisError):
                for sha256 in parked:
                    parts().uploads.release(sha256)
            raise


def _bytes(file: FileStorage) -> bytes:
    file.stream.seek(0)
    return file.stream.read()

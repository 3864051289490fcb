"""A collection as the API hands it out, made by hand."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np


def image(
    id: str, vector: Any, url: str | None = None, bytes_: bytes | None = None, **payload: Any
) -> dict[str, Any]:
    """One image of the list with `vectors=true`; two with the same `bytes_` have the same hash."""
    sha256 = hashlib.sha256(id.encode() if bytes_ is None else bytes_).hexdigest()
    system = {"sha256": sha256, "width": 640, "height": 480, "format": "JPEG", "bytes": 1000}
    system |= {"model": "m@1/p", "indexed_at": "2026-01-01T00:00:00.000Z", "id": id, "url": url}
    raw = np.asarray(vector, "<f4").tobytes()
    own = {"_image": {**system, **payload.pop("_image", {})}}
    return {"id": id, "url": url, "payload": payload | own, "vector": base64.b64encode(raw).decode()}


def serve(api: Any, answer: Any, name: str, images: list[dict[str, Any]]) -> None:
    """The collection, at version 3, whose images stand on two pages under the name of that very version."""
    dimension = len(base64.b64decode(images[0]["vector"])) // 4 if images else 2
    about = {
        "name": name,
        "version": 3,
        "model": "m",
        "revision": "1",
        "preprocessing": "p",
        "dimension": dimension,
    }
    about |= {"distance": "cosine", "images": len(images), "indexes": {"dx": "keyword"}}
    api.on("GET", f"/v1/collections/{name}", answer(about))
    half = len(images) // 2
    pages = [{"images": images[:half], "next_cursor": "2"}, {"images": images[half:], "next_cursor": None}]
    api.on("GET", f"/v1/collections/{name}%403/images", *map(answer, pages))

"""Kept thumbnails: one for all images of a collection that have the same bytes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from shared.contract import SYSTEM_KEY
from shared.files import Files

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Thumbnails:
    """Small WebP files by a collection's plain name and the sha256 of the bytes that they show."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, collection: str, sha256: str, data: bytes) -> None:
        self._files.write(_key(collection, sha256), data)

    def keep(self, collection: str, sha256: str, data: bytes) -> None:
        """Write it unless it is kept."""
        if not self._files.has(_key(collection, sha256)):
            self.write(collection, sha256, data)

    def read(self, collection: str, sha256: str) -> bytes | None:
        """None where none is kept."""
        return self._files.read(_key(collection, sha256))

    def delete(self, collection: str, sha256: str) -> None:
        self._files.delete(_key(collection, sha256))

    def delete_all(self, collection: str) -> None:
        """Those of a whole collection."""
        self._files.delete_folder(f"thumbnails/{collection}")


def thumbnail_path(collection: str, id: str, payload: dict[str, Any]) -> str | None:
    """Where the API serves an image's thumbnail; None where none is kept.

    What it shows is part of the address, so that it can be kept by whoever has seen it.
    """
    system = payload.get(SYSTEM_KEY, {})
    if not system.get("thumbnail"):
        return None
    return f"/v1/collections/{collection}/images/{quote(id, safe='')}/thumbnail?of={system['sha256'][:16]}"


def _key(collection: str, sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"`{sha256[:80]}` is no sha256.")
    return f"thumbnails/{collection}/{sha256[:2]}/{sha256}.webp"

"""Vectors and payloads: one interface, two engines."""

from __future__ import annotations

from shared.errors import StartError
from shared.settings import Settings
from workers.index.interface import Index
from workers.index.server import ServerIndex
from workers.index.store_client import StoreClient


def open_index(settings: Settings) -> Index:
    """The index that the settings name: a Qdrant server before the embedded store. StartError for neither."""
    if settings.qdrant_url:
        return ServerIndex(settings.qdrant_url, settings.qdrant_api_key)
    if settings.store_socket:
        return StoreClient(settings.store_socket)
    raise StartError(
        "There is nowhere to keep vectors: set QDRANT_URL to a Qdrant server, or run `lookalike up`, "
        "which starts the embedded store."
    )

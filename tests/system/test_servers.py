"""The same stack against servers of one's own: REDIS_URL and QDRANT_URL take the embedded parts' place."""

from __future__ import annotations

from pathlib import Path

from tests.image_server import ImageServer, jpeg
from tests.system.conftest import IMAGES_HOST
from tests.system.stack import Stack

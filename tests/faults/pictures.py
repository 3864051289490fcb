"""Pictures that cost next to nothing to make and take as long to fetch as their path says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.image_server import ImageServer, jpeg

_SHOWN = 16


class Pictures(Mapping[str, bytes]):
    """`/<seconds>/<n>.jpg`: one of a few small pictures, after so many seconds."""

    def __init__(self) -> None:
        self._shown = [jpeg(n, (96, 96)) for n in range(_SHOWN)]

    def __getitem__(self, path: str) -> bytes:
        seconds, n = path.removesuffix(".jpg").strip("/").split("/")
        time.sleep(float(seconds))
        return self._shown[int(n) % _SHOWN]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("there is no end of them")

    def __len__(self) -> int:
        return _SHOWN


def items(images: ImageServer, count: int, seconds: float) -> list[dict[str, Any]]:
    """`count` items of different ids, each `seconds` away."""
    return [
        {"url": images.url(f"/{seconds}/{n}.jpg"), "id": f"p{n}", "payload": {"n": n}} for n in range(count)
    ]

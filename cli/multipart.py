"""A multipart body around one large file, which is read as it is sent."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 2**20


class Multipart:
    """The JSON of one part, and a file as another. Iterate for the body's bytes, of which there are `len`."""

    def __init__(self, name: str, json: str, field: str, path: Path, file: BinaryIO) -> None:
        boundary = secrets.token_hex(16)
        quoted = path.name.replace("\\", "_").replace('"', "_")
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
            f"Content-Type: application/json\r\n\r\n{json}\r\n"
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{quoted}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._file = file
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._size = path.stat().st_size

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        while block := self._file.read(_BLOCK):
            yield block
        yield self._tail

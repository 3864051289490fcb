"""What a cell of pictures stands for: bytes, or a URL that is fetched later, or neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.cells import urls_in
from shared.contract import Refusal
from shared.errors import FailureCode
from shared.items import bad_url
from workers.sources.rows import Unreadable

Picture = bytes | str | Refusal


class Pictures:
    """Reads cells of pictures. `open` as in Rows; a picture has at most `max_bytes`."""

    def __init__(
        self, open: Callable[[str, int], bytes] | None, separator: str | None, max_bytes: int
    ) -> None:
        self._open = open
        self._separator = separator
        self._max_bytes = max_bytes

    def cells(self, cell: Any) -> tuple[list[Any], bool]:
        """The cells of single pictures that a cell holds, and whether it is one that holds several."""
        several = cell if isinstance(cell, list) else urls_in(cell, self._separator)
        return ([cell], False) if several is None else (several or [None], True)

    def of(self, cell: Any) -> Picture:
        """The picture of a cell that holds one."""
        if isinstance(cell, dict):  # as `datasets` has it, not decoded
            cell = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
        if isinstance(cell, bytes):
            return self._sized(cell)
        if isinstance(cell, str) and cell.strip():
            return self._at(cell.strip())
        return Refusal(code=FailureCode.EMPTY, detail="The row has no picture.")

    def _at(self, place: str) -> Picture:
        if place.lower().startswith(("http://", "https://")):
            return place
        if self._open is None:
            why = f"`{place[:200]}` is no http or https URL, and paths of files are not read from here."
            return bad_url(place, why)
        try:
            return self._sized(self._open(place, self._max_bytes + 1))
        except Unreadable as error:
            return bad_url(place, f"{error.detail}.")

    def _sized(self, data: bytes) -> Picture:
        if not data:
            return Refusal(code=FailureCode.EMPTY, detail="The picture has no bytes.")
        if len(data) <= self._max_bytes:
            return data
        why = f"The picture has more than {self._max_bytes:,} bytes, so many are allowed (LOOKALIKE_FETCH_MAX_BYTES)."
        return Refusal(code=FailureCode.TOO_LARGE, detail=why)

"""The names of payload fields, as Qdrant spells the path to one."""

from __future__ import annotations

import re

from shared.errors import RequestCode, RequestError

_NAME = r'(?:[\w-]+|"[^"\\]*")(?:\[\d*\])*'
_PATH = re.compile(rf"{_NAME}(?:\.{_NAME})*")


def field_path(name: str) -> str:
    """`name` where it is a path already (`dx`, `_image.width`, `sizes[].eu`); else quoted, as in `"Uniq Id"`.

    RequestError(INVALID_REQUEST) where neither can be, for Qdrant's paths know no escape.
    """
    if _PATH.fullmatch(name):
        return name
    if '"' in name or "\\" in name:
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f'`{name[:100]}` is no field: a path goes as in `dx`, `sizes[].eu` and `"Uniq Id"`, with no quote and no '
            "backslash inside a name.",
        )
    return f'"{name}"'

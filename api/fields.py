"""The names of payload fields, as Qdrant spells the path to one."""

from __future__ import annotations

import re

_NAME = r'(?:[\w-]+|"[^"]+")(?:\[\d*\])*'
_PATH = re.compile(rf"{_NAME}(?:\.{_NAME})*")


def field_path(name: str) -> str:
    """`name` where it is a path already (`dx`, `_image.width`, `sizes[].eu`); else quoted, as in `"Uniq Id"`."""
    return name if _PATH.fullmatch(name) or '"' in name else f'"{name}"'

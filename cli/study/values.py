"""A payload field that sorts images into classes: a label, a group, a stratum; and how it is shown."""

from __future__ import annotations

import json
from typing import Any

from cli.errors import Problem


def value_of(image: dict[str, Any], field: str) -> str | None:
    """The field's one value as text, None where it is missing. Raises Problem for a list or an object."""
    value = image["payload"].get(field)
    if isinstance(value, dict | list):
        raise Problem(
            f"`{field}` of image `{image['id']}` is {'a list' if isinstance(value, list) else 'an object'}; "
            "this needs a field of one value an image."
        )
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def shortened(words: str, length: int) -> str:
    """`words` in at most so many characters: their beginning and their end, by which labels and ids differ."""
    if len(words) <= length:
        return words
    end = length // 2
    return f"{words[: max(length - end - 1, 0)]}…{words[len(words) - end :]}"

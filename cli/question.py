"""How the options of a search are spelt on the command line. What cannot be read is a BadParameter."""

from __future__ import annotations

import json
from typing import Any

import click


def read_condition(context: click.Context, option: click.Parameter, given: str | None) -> Any:
    """A filter as JSON."""
    if given is None:
        return None
    try:
        return json.loads(given)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}") from error


def read_crop(context: click.Context, option: click.Parameter, given: str | None) -> list[float] | None:
    """`0.1,0.2,0.6,0.9`."""
    if given is None:
        return None
    try:
        left, top, right, bottom = (float(part) for part in given.split(","))
    except ValueError as error:
        raise click.BadParameter("four numbers with commas between them, such as 0.1,0.2,0.6,0.9") from error
    return [left, top, right, bottom]


def read_exclusions(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """`dx=nv`, and `age=55` for the number; `age="55"` for the text."""
    excluded: dict[str, list[Any]] = {}
    for each in given:
        field, equals, value = each.partition("=")
        if not (field and equals):
            raise click.BadParameter(f"`{each}` is not FIELD=VALUE")
        excluded.setdefault(field, []).append(_value(value))
    return {field: values if len(values) > 1 else values[0] for field, values in excluded.items()}


def _value(spelt: str) -> Any:
    try:
        value = json.loads(spelt)
    except ValueError:
        return spelt
    return value if isinstance(value, str | int | float) else spelt

"""Lists of items in JSON: one a line, or one object that holds them all. Read as streams, item by item."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import ijson
from ijson.common import ObjectBuilder

from api import limits
from api.items import item_from, not_an_item
from api.json_text import parse_json
from api.problems import not_built
from shared.contract import Item
from shared.errors import RequestCode, RequestError

_OPENINGS = ("start_map", "start_array")
_CLOSINGS = ("end_map", "end_array")
_DEEPEST = limits.MAX_PAYLOAD_DEPTH + 16  # past what becomes a failure row, the body is nonsense


def ndjson_items(body: io.BufferedReader, max_item_bytes: int) -> Iterator[Item]:
    """An item a line; blank lines are passed over."""
    number = 0
    while line := body.readline(max_item_bytes + 2):
        number += 1
        if len(line.rstrip(b"\r\n")) > max_item_bytes:
            raise not_an_item("Line", number, f"it is longer than {max_item_bytes:,} bytes")
        if line.isspace():
            continue
        try:
            raw = parse_json(line, constants=True)
        except ValueError as error:
            raise RequestError(RequestCode.INVALID_BODY, f"Line {number:,} is not JSON: {error}.") from error
        yield item_from(raw, "Line", number)


def json_items(body: io.BufferedReader, max_item_bytes: int) -> Iterator[Item]:
    """The members of `{"items": […]}`."""
    meter = _Meter(body, max_item_bytes)
    try:
        # Not ijson.items: it keeps the path of every value, which deep nesting would turn into gigabytes. And floats,
        # because its C parser breaks on integers too long for Python; so a number over 64 bits ends the body here.
        for raw in _members(ijson.basic_parse(meter, use_float=True)):
            meter.next_item()
            yield item_from(raw, "Item", meter.number)
    except (ijson.JSONError, UnicodeDecodeError) as error:  # the latter for half a surrogate pair
        raise RequestError(
            RequestCode.INVALID_BODY, f"The body is not JSON, after {meter.number:,} items: {_told(error)}."
        ) from error


class _Meter:
    """Reads for the parser, and stops where one item outgrows its bound."""

    def __init__(self, body: io.BufferedReader, max_item_bytes: int) -> None:
        self.number = 0
        self._body = body
        self._bound = max_item_bytes
        self._since = 0

    def next_item(self) -> None:
        self.number += 1
        self._since = 0

    def read(self, size: int) -> bytes:
        if self._since > self._bound:
            raise not_an_item("Item", self.number + 1, f"it is longer than {self._bound:,} bytes")
        data = self._body.read(size)
        self._since += len(data)
        return data


def _members(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    if next(events)[0] != "start_map":
        raise _no_list('it must be an object, {"items": […]}')
    found = False
    for event, value in events:
        if event == "end_map":
            break
        if found or value != "items":
            raise _misplaced(value)
        if next(events)[0] != "start_array":
            raise _no_list("`items` must be a list")
        found = True
        yield from _elements(events)
    for _ in events:  # what comes after the object is the parser's to refuse
        pass


def _elements(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """The values of a list, up to its end."""
    builder, depth = ObjectBuilder(), 0
    for event, value in events:
        depth += (event in _OPENINGS) - (event in _CLOSINGS)
        if depth < 0:
            return
        if depth > _DEEPEST:
            raise _no_list("an item is nested too deep")
        builder.event(event, value)
        if depth == 0:
            yield builder.value
            builder = ObjectBuilder()


def _misplaced(field: str) -> RequestError:
    return not_built(field) if field == "callback_url" else _no_list(f"`{field[:100]}` has no place in it")


def _no_list(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_BODY, f"The body is not a list of items: {why}.")


def _told(error: ijson.JSONError | UnicodeDecodeError) -> str:
    """The parser's first line; it may be bytes in disguise, and the rest of it quotes the body."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8, or a \\u escape is half of a surrogate pair"
    told = error.args[0] if error.args else "it ends too early"
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    return text.partition("\n")[0].rstrip(".")

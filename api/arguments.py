"""What a URL says: names, pages, filters. A RequestError names the argument that is wrong."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flask import request
from werkzeug.routing import BaseConverter, IntegerConverter, Map

from api import limits
from api.filters import checked_filter
from api.json_text import parse_json
from api.problems import not_built
from shared.errors import RequestCode, RequestError


class WholePath(BaseConverter):
    """The rest of the path as it stands: ids are often whole URLs, percent-encoded or not."""

    regex = r"[\s\S]+"
    part_isolating = False


class VersionNumber(IntegerConverter):
    """The number of a version; what is none is not found."""

    def __init__(self, map: Map) -> None:
        super().__init__(map, min=1, max=limits.MAX_VERSION)


def collection_name(name: str) -> str:
    """`name`, if a collection may be called so."""
    if not limits.COLLECTION_NAME.fullmatch(name):
        raise RequestError(
            RequestCode.INVALID_NAME,
            f"`{name[:200]}` is no name for a collection: 1 to 128 letters, digits, `_` and `-`, "
            "and a letter or digit first.",
        )
    return name


def collection_key(name: str) -> str:
    """`name`, if a collection may be called so, or one of its versions: `shop@2`."""
    return name if limits.COLLECTION_KEY.fullmatch(name) else collection_name(name)


def limit(default: int = limits.PAGE) -> int:
    """`?limit=`, 1 to 1,000."""
    given = request.args.get("limit", "")
    if not given:
        return default
    # At most four digits, so that int() is never slow.
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= limits.MAX_PAGE):
        raise RequestError(
            RequestCode.INVALID_REQUEST, f"`limit` must be a whole number from 1 to {limits.MAX_PAGE:,}."
        )
    return int(given)


def flag(name: str) -> bool:
    """`?<name>=`, true or false; false where it is not given."""
    given = request.args.get(name, "") or "false"
    if given not in ("true", "false"):
        raise RequestError(RequestCode.INVALID_REQUEST, f"`{name}` must be true or false.")
    return given == "true"


def cursor() -> str | None:
    """`?cursor=`, as the page before gave it out."""
    given = request.args.get("cursor") or None
    if given and len(given) > limits.MAX_CURSOR_LENGTH:
        raise no_cursor(given)
    return given


def no_cursor(given: str) -> RequestError:
    """The refusal of something that no page gave out."""
    return RequestError(
        RequestCode.INVALID_REQUEST, f"`cursor`: `{given[:60]}` is not what a page gave out as `next_cursor`."
    )


def filter_argument() -> dict[str, Any] | None:
    """`?filter=`, JSON."""
    given = request.args.get("filter")
    if not given:
        return None
    try:
        return checked_filter(parse_json(given.encode()))
    except ValueError as error:
        raise RequestError(RequestCode.INVALID_FILTER, f"`filter` is not JSON: {error}.") from error


def only(known: Collection[str]) -> None:
    """Refuse query arguments that would change nothing: they are misspelt, or not built yet."""
    for name in request.args:
        if name == "callback_url":
            raise not_built("callback_url")
        if name not in known:
            raise RequestError(
                RequestCode.INVALID_REQUEST,
                f"`{name[:100]}` is not an argument here; there are {', '.join(sorted(known))}.",
            )

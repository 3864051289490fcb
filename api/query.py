"""A search's body → Query: one way to ask, and options within their limits."""

from __future__ import annotations

import math
from typing import Any

from flask import request
from pydantic import ValidationError

from api import body, limits
from api.filters import checked_filter
from api.problems import not_built
from shared.contract import MAX_ID_LENGTH, Query
from shared.errors import RequestCode, RequestError
from shared.settings import Settings

_WAYS = ("url", "id", "vector")
_OPTIONS = ("filter", "limit", "offset", "score_threshold", "exact", "with_payload")
_NOT_BUILT = ("like", "unlike", "group_by", "group_size", "crop", "exclude")


def read_query(collection: str, settings: Settings) -> tuple[Query, bytes | None]:
    """This request's query, and the bytes of its picture where it brings one; `upload` is not set yet."""
    if request.mimetype != "multipart/form-data":
        return _query(collection, body.read_object(), pictures=0), None
    pictures = body.read_images(settings)
    body.refuse_other_parts("image", "query")
    part = body.read_part("query")
    options = {} if part is None else body.as_object(part, "`query`")
    return _query(collection, options, pictures=len(pictures)), pictures[0].read()


def _query(collection: str, given: dict[str, Any], pictures: int) -> Query:
    _check_fields(given)
    fields = {name: value for name, value in given.items() if value is not None}
    ways = [name for name in _WAYS if name in fields] + ["image"] * pictures
    if len(ways) != 1:
        asked = f"has {' and '.join(ways)}" if ways else "has none"
        raise _invalid(
            f"A search asks by exactly one of image (an upload), url, id and vector; this one {asked}."
        )
    if "filter" in fields:
        fields["filter"] = checked_filter(fields["filter"])
    try:
        query = Query.model_validate({**fields, "collection": collection}, strict=True)
    except ValidationError as error:
        raise _invalid(_told(error)) from error
    _check_sizes(query)
    return query


def _check_fields(given: dict[str, Any]) -> None:
    if "text" in given:
        raise RequestError(
            RequestCode.TEXT_UNSUPPORTED, "This model has no text side: search by image, url, id or vector."
        )
    for name in given:
        if name in _NOT_BUILT:
            raise not_built(name)
        if name == "image":
            raise _invalid(
                "`image` is an upload: send multipart/form-data with image=@file and a `query` part."
            )
        if name not in _WAYS + _OPTIONS:
            raise _invalid(
                f"`{name[:100]}` is not a field of a search; there are {', '.join(_WAYS + _OPTIONS)}."
            )


def _check_sizes(query: Query) -> None:
    if query.url is not None and not 0 < len(query.url) <= limits.MAX_URL_LENGTH:
        raise _invalid(f"`url` must have 1 to {limits.MAX_URL_LENGTH:,} characters.")
    if query.id is not None and not 0 < len(query.id) <= MAX_ID_LENGTH:
        raise _invalid(f"`id` must have 1 to {MAX_ID_LENGTH} characters.")
    if query.vector is not None and not 0 < len(query.vector) <= limits.MAX_VECTOR_LENGTH:
        raise _invalid(f"`vector` must have 1 to {limits.MAX_VECTOR_LENGTH:,} numbers.")
    if not all(map(math.isfinite, query.vector or ())):
        raise _invalid("`vector` must have finite numbers only.")
    if query.score_threshold is not None and not math.isfinite(query.score_threshold):
        raise _invalid("`score_threshold` must be a finite number.")
    if isinstance(query.with_payload, list) and len(query.with_payload) > limits.MAX_PAYLOAD_FIELDS:
        raise _invalid(f"`with_payload` may name {limits.MAX_PAYLOAD_FIELDS:,} fields.")


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][:2])
    return f"`{place}`: {first['msg'][0].lower()}{first['msg'][1:]}."


def _invalid(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_REQUEST, why)

"""A search's body → Query: one way to ask, and options within their limits."""

from __future__ import annotations

import math
from typing import Any

from flask import request
from pydantic import ValidationError
from werkzeug.datastructures import FileStorage

from api import body, limits
from api.fields import field_path
from api.filters import checked_filter, excluding
from shared.contract import MAX_ID_LENGTH, Query
from shared.errors import RequestCode, RequestError
from shared.settings import Settings

_WAYS = ("url", "id", "text", "vector", "like")
_TEXT_MAY_JOIN = ("image", "url", "id")
_OPTIONS = (
    *("unlike", "crop", "filter", "exclude", "limit", "offset", "score_threshold"),
    *("group_by", "group_size", "exact", "placeholders", "with_payload"),
)


def read_query(collection: str, settings: Settings) -> tuple[Query, list[FileStorage]]:
    """This request's query, and the pictures that it brings; `uploads` is not set yet."""
    if request.mimetype != "multipart/form-data":
        return _query(collection, body.read_object()), []
    pictures = body.read_images(settings)
    body.refuse_other_parts("image", "query")
    part = body.read_part("query")
    options = {} if part is None else body.as_object(part, "`query`")
    return _query(collection, options, pictures=len(pictures)), pictures


def read_queries(collection: str) -> list[Query]:
    """This request's batch. RequestError says which query is wrong, and how."""
    given = body.read_object()
    queries = given.get("queries")
    if given.keys() != {"queries"} or not isinstance(queries, list):
        raise _invalid('A batch is `{"queries": […]}`, a list of searches, and nothing else.')
    if not 0 < len(queries) <= limits.MAX_QUERIES:
        raise _invalid(f"`queries` must have 1 to {limits.MAX_QUERIES} members; it has {len(queries):,}.")
    read = [_member(collection, number, query) for number, query in enumerate(queries)]
    _check_hits(sum(query.limit * query.group_size for query in read))
    return read


def _member(collection: str, number: int, given: Any) -> Query:
    if not isinstance(given, dict):
        raise _invalid(f"`queries.{number}` must be an object, as a single search is.")
    try:
        return _query(collection, given)
    except RequestError as error:
        raise RequestError(error.code, f"`queries.{number}`: {error.detail}") from error


def _query(collection: str, given: dict[str, Any], pictures: int = 0) -> Query:
    _check_names(given)
    fields = {name: value for name, value in given.items() if value is not None}
    ways = [name for name in _WAYS if name in fields] + ["image"] * min(pictures, 1)
    _check_ways(ways)
    _check_company(fields, pictures)
    if "filter" in fields or "exclude" in fields:
        fields["filter"] = checked_filter(excluding(fields.get("filter", {}), fields.pop("exclude", {})))
    try:
        query = Query.model_validate({**fields, "collection": collection}, strict=True)
    except ValidationError as error:
        raise _invalid(_told(error)) from error
    _check_question(query)
    _check_options(query)
    if query.group_by is None:
        return query
    return query.model_copy(update={"group_by": field_path(query.group_by)})


def _check_names(given: dict[str, Any]) -> None:
    for name in given:
        if name == "image":
            raise _invalid(
                "`image` is an upload: send multipart/form-data with image=@file and a `query` part."
            )
        if name not in _WAYS + _OPTIONS:
            raise _invalid(
                f"`{name[:100]}` is not a field of a search; there are {', '.join(_WAYS + _OPTIONS)}."
            )


def _check_ways(ways: list[str]) -> None:
    others = [way for way in ways if way != "text"]
    if len(ways) == 1 or (len(others) == 1 and others[0] in _TEXT_MAY_JOIN):
        return
    asked = f"has {' and '.join(ways)}" if ways else "has none"
    raise _invalid(
        "A search asks by exactly one of image (uploads), url, id, text, vector and like, or by text together with "
        f"image, url or id; this one {asked}."
    )


def _check_company(fields: dict[str, Any], pictures: int) -> None:
    """Options that mean nothing without another one, or with too much of it."""
    if pictures > limits.MAX_QUERY_PICTURES:
        raise _invalid(
            f"A search takes at most {limits.MAX_QUERY_PICTURES} pictures; this one has {pictures:,}."
        )
    if "unlike" in fields and "like" not in fields:
        raise _invalid("`unlike` goes with `like`: what to keep away from, and what to look for.")
    if "group_size" in fields and "group_by" not in fields:
        raise _invalid("`group_size` goes with `group_by`, the field whose values make the groups.")
    if "crop" in fields and not (pictures == 1 or "url" in fields or "id" in fields):
        raise _invalid("`crop` cuts one picture: it goes with one image, with url or with id.")


def _check_question(query: Query) -> None:
    if query.url is not None and not 0 < len(query.url) <= limits.MAX_URL_LENGTH:
        raise _invalid(f"`url` must have 1 to {limits.MAX_URL_LENGTH:,} characters.")
    if query.id is not None and not 0 < len(query.id) <= MAX_ID_LENGTH:
        raise _invalid(f"`id` must have 1 to {MAX_ID_LENGTH} characters.")
    if query.text is not None and not (query.text.strip() and len(query.text) <= limits.MAX_TEXT_LENGTH):
        raise _invalid(f"`text` must have 1 to {limits.MAX_TEXT_LENGTH:,} characters, and not only spaces.")
    if query.vector is not None and not 0 < len(query.vector) <= limits.MAX_VECTOR_LENGTH:
        raise _invalid(f"`vector` must have 1 to {limits.MAX_VECTOR_LENGTH:,} numbers.")
    if not all(map(math.isfinite, query.vector or ())):
        raise _invalid("`vector` must have finite numbers only.")
    _check_examples("like", query.like)
    _check_examples("unlike", query.unlike)
    _check_crop(query.crop)


def _check_examples(name: str, examples: list[str] | None) -> None:
    if examples is None:
        return
    if not 0 < len(examples) <= limits.MAX_QUERY_PICTURES:
        raise _invalid(f"`{name}` must have 1 to {limits.MAX_QUERY_PICTURES} ids or URLs.")
    if not all(0 < len(example) <= limits.MAX_URL_LENGTH for example in examples):
        raise _invalid(f"`{name}`: an id or a URL has 1 to {limits.MAX_URL_LENGTH:,} characters.")


def _check_crop(crop: list[float] | None) -> None:
    if crop is None:
        return
    left, top, right, bottom = crop if len(crop) == 4 else (1.0, 1.0, 0.0, 0.0)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):  # so NaN is refused too
        raise _invalid(
            "`crop` must be [left, top, right, bottom] in fractions of the picture, from 0 to 1, left before right "
            "and top before bottom."
        )


def _check_options(query: Query) -> None:
    if query.score_threshold is not None and not math.isfinite(query.score_threshold):
        raise _invalid("`score_threshold` must be a finite number.")
    if isinstance(query.with_payload, list) and len(query.with_payload) > limits.MAX_PAYLOAD_FIELDS:
        raise _invalid(f"`with_payload` may name {limits.MAX_PAYLOAD_FIELDS:,} fields.")
    if query.group_by is not None and not 0 < len(query.group_by) <= limits.MAX_FIELD_LENGTH:
        raise _invalid(f"`group_by` must have 1 to {limits.MAX_FIELD_LENGTH} characters.")
    looks_at_all = query.group_by is not None or not query.placeholders
    if looks_at_all and query.offset + query.limit > limits.MAX_DEPTH:
        raise _invalid(
            f"With `group_by` or without placeholders, `offset` and `limit` may be {limits.MAX_DEPTH:,} together; "
            "narrow the search with a filter."
        )
    _check_hits(query.limit * query.group_size)


def _check_hits(hits: int) -> None:
    if hits > limits.MAX_HITS:
        raise _invalid(
            f"One request may ask for {limits.MAX_HITS:,} hits, of all groups and queries together; this one asks "
            f"for {hits:,} (`limit` times `group_size`)."
        )


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][:2])
    return f"`{place}`: {first['msg'][0].lower()}{first['msg'][1:]}."


def _invalid(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_REQUEST, why)

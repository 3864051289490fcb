"""Qdrant's filter JSON, bounded, and read with qdrant-client's models so that a wrong one is refused here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from qdrant_client import models

from api import limits
from api.fields import field_path
from shared.errors import RequestCode, RequestError
from shared.items import MAX_INTEGER

_CLAUSES = ("must", "should", "must_not")
_TEXTS = ("text", "text_any", "phrase")
_MAX_JSON_DEPTH = 4 * limits.MAX_FILTER_DEPTH + 8  # a filter inside another is at most four levels of JSON


def checked_filter(given: Any) -> dict[str, Any]:
    """`given`, if it is a filter within the limits, with every field as Qdrant spells it.

    RequestError(INVALID_FILTER) says why not.
    """
    if not isinstance(given, dict):
        raise _invalid("it must be an object with `must`, `should` or `must_not`")
    _check_size(given)
    try:
        models.Filter.model_validate(given)
    except ValidationError as error:
        raise _invalid(_told(error)) from error
    conditions = list(_conditions(given))
    if len(conditions) > limits.MAX_FILTER_CONDITIONS:
        raise _invalid(f"it has {len(conditions)} conditions, {limits.MAX_FILTER_CONDITIONS} are allowed")
    _check_fields({condition["key"] for condition in conditions if "key" in condition})
    _check_texts(conditions)
    try:
        spelt: dict[str, Any] = _with_paths(given)
    except RequestError as error:
        raise _invalid(error.detail.removesuffix(".")) from error
    return spelt


def excluding(filter: Any, exclude: Any) -> Any:
    """`filter`, and none of the values that `exclude` names: `{field: value}` or `{field: [values]}`.

    What is wrong with `filter` is left for `checked_filter`. RequestError(INVALID_REQUEST) says what is with `exclude`.
    """
    if not isinstance(exclude, dict):
        raise _no_exclude(
            "it must be an object of fields and the value, or list of values, that no hit shall have"
        )
    if not exclude or not isinstance(filter, dict):
        return filter
    standing = filter.get("must_not") or []
    conditions = [condition for field, values in exclude.items() for condition in _one_of(field, values)]
    return {**filter, "must_not": [*(standing if isinstance(standing, list) else [standing]), *conditions]}


def _one_of(field: str, given: Any) -> Iterator[dict[str, Any]]:
    values = given if isinstance(given, list) else [given]
    words = [value for value in values if isinstance(value, str)]
    if words:
        yield {"key": field, "match": {"any": words}}
    for value in values:
        if isinstance(value, float) and math.isfinite(value):  # Qdrant matches whole numbers only
            yield {"key": field, "range": {"gte": value, "lte": value}}
        elif isinstance(value, int) and -MAX_INTEGER <= value < MAX_INTEGER:  # a bool is one too
            yield {"key": field, "match": {"value": value}}
        elif not isinstance(value, str):
            raise _no_exclude(
                f"a value of `{field[:100]}` is no text, no number of 64 bits and no truth value"
            )


def _with_paths(value: Any) -> Any:
    """Every `key` in it as a path to a field."""
    if isinstance(value, list):
        return [_with_paths(member) for member in value]
    if not isinstance(value, dict):
        return value
    return {
        name: field_path(member) if name == "key" and isinstance(member, str) else _with_paths(member)
        for name, member in value.items()
    }


def _check_fields(fields: set[str]) -> None:
    """Each may become a payload index that stays."""
    if len(fields) > limits.MAX_FILTER_FIELDS:
        raise _invalid(f"it names {len(fields)} fields, {limits.MAX_FILTER_FIELDS} are allowed")
    if any(len(field) > limits.MAX_FIELD_LENGTH for field in fields):
        raise _invalid(f"the name of a field has more than {limits.MAX_FIELD_LENGTH} characters")


def _check_texts(conditions: list[dict[str, Any]]) -> None:
    """Without an index of its own for words, an engine takes each text apart again at every image."""
    matches = [condition.get("match") or {} for condition in conditions]
    length = sum(len(match.get(kind) or "") for match in matches for kind in _TEXTS)
    if length > limits.MAX_TEXT_LENGTH:
        raise _invalid(
            f"it has {length:,} characters of text to find, {limits.MAX_TEXT_LENGTH:,} are allowed"
        )


def _check_size(given: dict[str, Any]) -> None:
    """Before the models see it: what they take long to refuse is refused here."""
    if len(json.dumps(given)) > limits.MAX_FILTER_BYTES:
        raise _invalid(f"it is larger than {limits.MAX_FILTER_BYTES // 1024} KiB")
    unseen: list[tuple[Any, int]] = [(given, 1)]
    while unseen:
        value, depth = unseen.pop()
        if depth > _MAX_JSON_DEPTH:
            raise _too_deep()
        if isinstance(value, list) and len(value) > limits.MAX_FILTER_LIST:
            raise _invalid(f"a list has {len(value):,} members, {limits.MAX_FILTER_LIST:,} are allowed")
        if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
            raise _invalid("a whole number in it has more than 64 bits")
        if isinstance(value, dict | list):
            members = value.values() if isinstance(value, dict) else value
            unseen += [(member, depth + 1) for member in members]


def _conditions(filter: dict[str, Any], depth: int = 1) -> Iterator[dict[str, Any]]:
    """Every condition of a valid filter, filters inside it included."""
    if depth > limits.MAX_FILTER_DEPTH:
        raise _too_deep()
    found = [filter.get(clause) or [] for clause in _CLAUSES]
    found.append((filter.get("min_should") or {}).get("conditions", []))
    for conditions in found:
        for condition in [conditions] if isinstance(conditions, dict) else conditions:
            yield condition
            inner = condition["nested"]["filter"] if "nested" in condition else condition
            if "key" not in condition:
                yield from _conditions(inner, depth + 1)


def _told(error: ValidationError) -> str:
    """The complaint that came furthest into the filter: the models' unions try every kind of condition."""
    furthest = max(error.errors(include_url=False), key=lambda each: len(each["loc"]))
    place = ".".join(str(part) for part in furthest["loc"] if not _names_a_type(part))
    return f"at `{place[:200]}`: {furthest['msg'][0].lower()}{furthest['msg'][1:]}"


def _names_a_type(part: int | str) -> bool:
    """Whether a step of pydantic's path names a member of a union and not a place in the filter."""
    return isinstance(part, str) and (hasattr(models, part) or "[" in part)


def _too_deep() -> RequestError:
    return _invalid(f"more than {limits.MAX_FILTER_DEPTH} filters stand inside each other")


def _no_exclude(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_REQUEST, f"`exclude` cannot be used: {why}.")


def _invalid(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_FILTER, f"`filter` is not one that Qdrant understands: {why}.")

"""What hits must fulfil: filters put together, and the payload indexes that serve them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from shared.contract import GroupId
from shared.errors import RequestError
from workers.index.interface import Collection, FieldType, Filter, Index

Condition = dict[str, Any]


def narrowed(
    filter: Filter | None, *, must: Iterable[Condition] = (), must_not: Iterable[Condition] = ()
) -> Filter | None:
    """`filter` with more conditions; None where there are none at all."""
    whole = dict(filter or {})
    for clause, conditions in (("must", list(must)), ("must_not", list(must_not))):
        if conditions:
            whole[clause] = [*_listed(whole.get(clause)), *conditions]
    return whole or None


def empty(field: str) -> Condition:
    """Fulfilled by images that lack the field, or have nothing in it."""
    return {"is_empty": {"key": field}}


def one_of(field: str, values: Sequence[GroupId]) -> list[Condition]:
    """Conditions of which an image fulfils one where it has one of these values."""
    words = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    truths = [value for value in values if isinstance(value, bool)]
    matches: list[Condition] = [{"any": alike} for alike in (words, numbers) if alike]
    matches += [{"value": truth} for truth in truths]  # Qdrant has no `any` of them
    return [{"key": field, "match": match} for match in matches]


def besides(field: str, values: Sequence[GroupId]) -> Condition:
    """Fulfilled where an image has a value besides these, of which there must be one; of several, one is enough."""
    excepts = [
        {"key": field, "match": {"except": condition["match"]["any"]}}
        for condition in one_of(field, values)
        if "any" in condition["match"]
    ]
    several = [{"must": excepts}] if excepts else []
    return {"should": [{"must_not": one_of(field, values)}, *several]}


def index_filtered(filter: Filter | None, collection: Collection, index: Index) -> None:
    """A filter on a field makes its payload index, if none stands (API.md)."""
    index_fields(dict(filtered_fields(filter or {})), collection, index)


def index_fields(fields: Mapping[str, FieldType], collection: Collection, index: Index) -> None:
    """Make the payload indexes that do not stand, of whatever type. Without room for them it is answered without."""
    wanted = {field: type for field, type in fields.items() if field not in collection.indexes}
    if not collection.has_room_for(wanted):
        return
    for field, type in wanted.items():
        # Another search may have made one of another type meanwhile, and what is no field the engine itself refuses.
        with suppress(RequestError):
            index.ensure_indexes(collection.key, {field: type})


def filtered_fields(filter: Filter) -> Iterator[tuple[str, FieldType]]:
    """The fields that a filter asks about, with the type of index that serves the question."""
    for clause in ("must", "should", "must_not"):
        for condition in _listed(filter.get(clause)):
            yield from _fields_of_condition(condition)
    for condition in (filter.get("min_should") or {}).get("conditions", []):
        yield from _fields_of_condition(condition)


def _fields_of_condition(condition: Condition) -> Iterator[tuple[str, FieldType]]:
    if "key" not in condition:
        yield from filtered_fields(condition)
    elif condition.get("match"):
        type = _type_of_match(condition["match"])
        if type:
            yield condition["key"], type
    elif condition.get("range"):
        bounds = [bound for bound in condition["range"].values() if bound is not None]
        yield condition["key"], "datetime" if any(isinstance(bound, str) for bound in bounds) else "float"


def _type_of_match(match: dict[str, Any]) -> FieldType | None:
    values = match.get("any") or match.get("except") or [match.get("value")]
    match values[0]:
        case bool():
            return "bool"
        case int():
            return "integer"
        case str():
            return "keyword"
    return "text" if "text" in match or "phrase" in match or "text_any" in match else None


def _listed(value: Any) -> list[Any]:
    """Qdrant lets one condition stand where a list is meant, and nothing too."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]

"""Qdrant's filter JSON, read with qdrant-client's models and turned into qdrant-edge's own classes."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import qdrant_edge as edge
from pydantic import ValidationError
from qdrant_client import models

from workers.index.interface import Filter
from workers.index.refusals import invalid_filter

# Both libraries give these the same fields, so that they are copied name by name.
_TWINS: dict[type, Any] = {
    models.FieldCondition: edge.FieldCondition,
    models.MinShould: edge.MinShould,
    models.MatchValue: edge.MatchValue,
    models.MatchAny: edge.MatchAny,
    models.MatchText: edge.MatchText,
    models.MatchTextAny: edge.MatchTextAny,
    models.MatchPhrase: edge.MatchPhrase,
    models.MatchPrefix: edge.MatchPrefix,
    models.MatchSubstring: edge.MatchSubstring,
    models.Range: edge.RangeFloat,
    models.DatetimeRange: edge.RangeDateTime,
    models.ValuesCount: edge.ValuesCount,
    models.GeoPoint: edge.GeoPoint,
    models.GeoBoundingBox: edge.GeoBoundingBox,
    models.GeoRadius: edge.GeoRadius,
    models.GeoPolygon: edge.GeoPolygon,
}


def parse_filter(filter: Filter | None) -> models.Filter | None:
    """As qdrant-client takes it. RequestError(INVALID_FILTER) says where it is no filter of Qdrant's."""
    if filter is None:
        return None
    try:
        return models.Filter.model_validate(filter)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise invalid_filter(f"at {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def edge_filter(filter: Filter | None) -> edge.Filter | None:
    """As qdrant-edge takes it. RequestError(INVALID_FILTER) names what that engine refuses or lacks."""
    try:
        return _converted(parse_filter(filter))
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid_filter(f"{error}.") from error


def _converted(node: Any) -> Any:
    match node:
        case None | bool() | int() | float() | str():
            return node
        case date():  # datetime too
            return node.isoformat()
        case list():
            return [_converted(part) for part in node]
        case models.GeoLineString(points=points):
            return _converted(points)
        case models.MatchValue(value=bool() as value):
            # The binding (0.9.0) takes Python's own bool for a number, and finds nothing.
            return edge.MatchValue(np.bool_(value))  # type: ignore[arg-type]
        case models.MatchExcept(except_=values):
            return edge.MatchExcept(values)
        case models.HasIdCondition(has_id=ids):
            return edge.HasIdCondition(set(ids))
        case models.HasVectorCondition(has_vector=vector):
            return edge.HasVectorCondition(vector)
        case models.IsEmptyCondition(is_empty=field):
            return edge.IsEmptyCondition(field.key)
        case models.IsNullCondition(is_null=field):
            return edge.IsNullCondition(field.key)
        case models.NestedCondition(nested=nested):
            return edge.NestedCondition(nested.key, _converted(nested.filter))
        case models.Filter():
            return _converted_filter(node)
    return _twin(node)


def _converted_filter(node: models.Filter) -> edge.Filter:
    clauses = {}
    for clause, conditions in node:
        # Qdrant lets one condition stand where a list is meant.
        one = clause != "min_should" and conditions is not None and not isinstance(conditions, list)
        clauses[clause] = _converted([conditions] if one else conditions)
    return edge.Filter(**clauses)


def _twin(node: Any) -> Any:
    if type(node) not in _TWINS:
        raise ValueError(f"the embedded store has no {type(node).__name__}, a Qdrant server does")
    fields = {name: _converted(value) for name, value in node if value is not None}
    if isinstance(node, models.FieldCondition) and len(fields) < 2:
        raise ValueError(f"the condition on `{node.key}` asks nothing")
    return _TWINS[type(node)](**fields)

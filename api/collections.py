"""Collections: make, list, describe, delete, and count the values of a field."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify, url_for

from api import arguments, limits
from api.body import read_object
from api.fields import field_path
from api.parts import ask, parts
from shared.contract import DELETE_COLLECTION, GET_COLLECTION, GET_FACETS, LIST_COLLECTIONS, PUT_COLLECTION
from shared.errors import RequestCode, RequestError

collections = Blueprint("collections", __name__)

FIELD_TYPES = ("keyword", "integer", "float", "bool", "datetime", "text", "uuid")


@collections.get("/v1/collections")
def list_all() -> Any:
    return {"collections": ask(LIST_COLLECTIONS)}


@collections.get("/v1/collections/<name>")
def get(name: str) -> Any:
    return ask(GET_COLLECTION, arguments.collection_key(name))


@collections.put("/v1/collections/<name>")
def put(name: str) -> Any:
    arguments.collection_name(name)
    given = read_object(may_be_empty=True)
    if unknown := given.keys() - {"model", "indexes"}:
        raise _invalid(f"`{min(unknown)[:100]}` is not a field of a collection; there are model and indexes.")
    answer = ask(PUT_COLLECTION, name, model_name(given.get("model")), _indexes(given.get("indexes")))
    location = {"Location": url_for("collections.get", name=name)}
    return jsonify(answer["collection"]), 201 if answer["created"] else 200, location


@collections.delete("/v1/collections/<name>")
def delete(name: str) -> Any:
    """Its unfinished jobs are cancelled first: they would make the collection anew."""
    arguments.collection_name(name)
    for job in parts().ledger.unfinished_jobs(name):
        parts().ledger.cancel(job, f"Collection `{name}` was deleted.")
    ask(DELETE_COLLECTION, name)
    return "", 204


@collections.get("/v1/collections/<name>/facets/<whole:field>")
def facets(name: str, field: str) -> Any:
    arguments.collection_key(name)
    if len(field) > limits.MAX_FIELD_LENGTH:
        raise _invalid(f"A field's name has at most {limits.MAX_FIELD_LENGTH} characters.")
    return ask(
        GET_FACETS, name, field_path(field), arguments.filter_argument(), arguments.limit(limits.FACET_VALUES)
    )


def model_name(given: Any) -> str | None:
    """The `model` of a body."""
    if given is not None and not (isinstance(given, str) and 0 < len(given) <= limits.MAX_MODEL_LENGTH):
        raise _invalid(f"`model` must be a string of 1 to {limits.MAX_MODEL_LENGTH} characters.")
    return given


def _indexes(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > limits.MAX_INDEXES:
        raise _invalid(f"`indexes` must be an object of at most {limits.MAX_INDEXES} fields and their types.")
    for field, type in given.items():
        if not 0 < len(field) <= limits.MAX_FIELD_LENGTH:
            raise _invalid(f"`indexes`: a field's name has 1 to {limits.MAX_FIELD_LENGTH} characters.")
        if type not in FIELD_TYPES:
            raise _invalid(f"`indexes.{field}` must be one of {', '.join(FIELD_TYPES)}.")
    return {field_path(field): type for field, type in given.items()}


def _invalid(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_REQUEST, why)

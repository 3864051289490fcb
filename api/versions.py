"""Versions of a collection: see them, make one under another model, fill it, compare it, put it live, drop it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify, request, url_for

from api import arguments, limits
from api.body import read_object
from api.collections import model_name
from api.parts import ask, parts
from api.problems import Later
from api.submission import accept_import, accepted
from shared.contract import (
    ADD_VERSION,
    COMPARE_VERSIONS,
    DROP_VERSION,
    GO_LIVE,
    LIST_VERSIONS,
    ROUTE_COPY,
    Source,
)
from shared.errors import RequestCode, RequestError

versions = Blueprint("versions", __name__)

_ALL = "/v1/collections/<name>/versions"
_ONE = f"{_ALL}/<version:version>"
_SLOW_SECONDS = 90.0  # for many searches, or for a model to be loaded
_COPY_SECONDS = 10


@versions.get(_ALL)
def list_all(name: str) -> Any:
    return ask(LIST_VERSIONS, arguments.collection_name(name))


@versions.post(_ALL)
def add(name: str) -> Any:
    arguments.collection_name(name)
    given = _only(read_object(), "model")
    if given.get("model") is None:
        raise _invalid("`model` is missing: under which model shall the new version stand?")
    made = ask(ADD_VERSION, name, model_name(given["model"]))
    location = url_for("collections.get", name=f"{name}@{made['version']}")
    return jsonify(made), 201, {"Location": location}


@versions.post(f"{_ONE}/copies")
def copy(name: str, version: int) -> Any:
    """A job that brings the version up to another one: the live one, unless `from` says which."""
    arguments.collection_name(name)
    origin = _only(read_object(may_be_empty=True), "from").get("from")
    if origin is not None and not (type(origin) is int and 1 <= origin <= limits.MAX_VERSION):
        raise _invalid("`from` must be the number of a version.")
    source, target = ask(ROUTE_COPY, name, version, origin)
    return accepted(accept_import(target, Source(collection=source)))


@versions.get(f"{_ONE}/comparison")
def comparison(name: str, version: int) -> Any:
    arguments.collection_name(name)
    sample = _sample()
    return ask(COMPARE_VERSIONS, name, version, sample, seconds=_SLOW_SECONDS)


@versions.post(f"{_ONE}/live")
def go_live(name: str, version: int) -> Any:
    """What is copied into a live version must be newer than what it has; these jobs chose under the other rule."""
    _refuse_while_copied(f"{arguments.collection_name(name)}@{version}")
    return ask(GO_LIVE, name, version, seconds=_SLOW_SECONDS)


@versions.delete(_ONE)
def drop(name: str, version: int) -> Any:
    """Not while a job copies from it, or into it."""
    _refuse_while_copied(arguments.collection_name(name))
    ask(DROP_VERSION, name, version)
    return "", 204


def _refuse_while_copied(name: str) -> None:
    """While a job copies into this version, or into any version of this plain name."""
    for job in parts().ledger.unfinished_jobs(name):
        target = parts().ledger.snapshot(job).collection
        if "@" in target:
            raise Later(
                RequestCode.REQUEST_IN_PROGRESS,
                f"Job `{job}` still copies into `{target}`. Wait for its end, or cancel it.",
                again_after=_COPY_SECONDS,
            )


def _sample() -> int:
    given = request.args.get("sample", "") or str(limits.SAMPLE)
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= limits.MAX_SAMPLE):
        raise _invalid(f"`sample` must be a whole number from 1 to {limits.MAX_SAMPLE}.")
    return int(given)


def _only(given: dict[str, Any], field: str) -> dict[str, Any]:
    if unknown := given.keys() - {field}:
        raise _invalid(f"`{min(unknown)[:100]}` is not a field here; there is `{field}`.")
    return given


def _invalid(why: str) -> RequestError:
    return RequestError(RequestCode.INVALID_REQUEST, why)

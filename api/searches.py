"""Searches: ask by picture, words, id or vector, one by one or many at once; wait, or come back for the answer."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from flask import Blueprint, jsonify, request, url_for
from werkzeug.datastructures import FileStorage

from api import arguments, limits
from api.admission import check_memory
from api.parts import lending, parts
from api.problems import code_of, problem
from api.query import read_queries, read_query
from shared.contract import SEARCH, SEARCH_BATCH, Query, TaskSpec
from shared.errors import RequestCode, RequestError

searches = Blueprint("searches", __name__)

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)


@searches.post("/v1/collections/<name>/searches")
def search(name: str) -> Any:
    query, pictures = read_query(arguments.collection_key(name), parts().settings)
    if pictures:
        query = query.model_copy(update={"uploads": _parked(pictures)})
    id = _send(SEARCH, name, _message(query))
    seconds = _seconds_to_wait()
    # Only a worker knows whether its model reads text, and that it does not is told at once (API.md).
    answer = _answer_within(seconds or (parts().settings.answer_seconds if query.text else 0), id)
    return _answered(id, answer, seconds)


@searches.post("/v1/collections/<name>/searches/batch")
def batch(name: str) -> Any:
    queries = read_queries(arguments.collection_key(name))
    check_memory()
    id = _send(SEARCH_BATCH, name, [_message(query) for query in queries])
    seconds = _seconds_to_wait()
    return _answered(id, _answer_within(seconds, id), seconds)


@searches.get("/v1/searches/<id>")
def get(id: str) -> Any:
    if not parts().redis.exists(_record(id)):
        raise RequestError(
            RequestCode.SEARCH_NOT_FOUND,
            f"There is no search `{id[:100]}`. Searches can be read for {parts().settings.search_ttl} s.",
        )
    answer = parts().broker.wait(id, 0)
    return {"id": id, "state": "pending"} if answer is None else _result(id, answer)


def _parked(pictures: list[FileStorage]) -> list[str]:
    """Where the pictures wait for a worker, one after the other, so that not all of them are held in memory."""
    parked = []
    for picture in pictures:
        check_memory()
        parked.append(parts().uploads.park_for_search(picture.read()))
    return parked


def _message(query: Query) -> dict[str, Any]:
    return query.model_copy(update={"sent_at": time.time()}).model_dump(exclude_none=True)


def _send(spec: TaskSpec, collection: str, message: Any) -> str:
    """Put it on its queue; returns its id. An id without our own record is unknown, or has expired."""
    id = uuid.uuid4().hex
    parts().redis.set(_record(id), collection, ex=parts().settings.search_ttl)
    return parts().broker.send(spec, message, task_id=id, expires=parts().settings.search_ttl)


def _answer_within(seconds: float, id: str) -> Any | None:
    if not seconds:
        return None
    with lending():
        return parts().broker.wait(id, seconds)


def _answered(id: str, answer: Any | None, seconds: int) -> Any:
    """200 with the result where the client waits `seconds` for it and it is there, else 202."""
    headers = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
    _raise_what_the_client_did_wrong(answer)
    if answer is not None and seconds:
        return jsonify(_result(id, answer)), 200, headers
    headers["Location"] = url_for("searches.get", id=id)
    return jsonify({"id": id, "state": "pending"}), 202, headers


def _record(id: str) -> str:
    return f"lookalike:search:{id}"


def _seconds_to_wait() -> int:
    """`Prefer: wait=N` (RFC 7240); a preference that cannot be read is no preference."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), limits.MAX_WAIT_SECONDS) if found else 0


def _raise_what_the_client_did_wrong(answer: dict[str, Any] | None) -> None:
    """A failure code belongs to the picture, and is a result; a request's code is the request's."""
    failure = (answer or {}).get("problem", {})
    code = code_of(failure["code"]) if failure else None
    if isinstance(code, RequestCode):
        raise RequestError(code, failure["detail"])


def _result(id: str, answer: dict[str, Any]) -> dict[str, Any]:
    result = {"id": id, **_with_whole_problem(answer)}
    if "results" in answer:
        result["results"] = [_with_whole_problem(each) for each in answer["results"]]
    return result


def _with_whole_problem(answer: dict[str, Any]) -> dict[str, Any]:
    if "problem" not in answer:
        return answer
    short = answer["problem"]
    return {**answer, "problem": problem(code_of(short["code"]), short["detail"])}

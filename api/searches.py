"""Searches: ask by picture, URL, id or vector; wait for the answer or come back for it."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from flask import Blueprint, jsonify, request, url_for

from api import arguments, limits
from api.admission import check_memory
from api.parts import lending, parts
from api.problems import code_of, problem
from api.query import read_query
from shared.contract import SEARCH, Query
from shared.errors import RequestCode, RequestError

searches = Blueprint("searches", __name__)

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)


@searches.post("/v1/collections/<name>/searches")
def search(name: str) -> Any:
    query, picture = read_query(arguments.collection_name(name), parts().settings)
    if picture is not None:
        check_memory()
        query = query.model_copy(update={"upload": parts().uploads.park_for_search(picture)})
    id = _send(query)
    seconds = _seconds_to_wait()
    answer = _answer_within(seconds, id) if seconds else None
    headers = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
    if answer is None:
        headers["Location"] = url_for("searches.get", id=id)
        return jsonify({"id": id, "state": "pending"}), 202, headers
    _raise_what_the_client_did_wrong(answer)
    return jsonify(_result(id, answer)), 200, headers


@searches.get("/v1/searches/<id>")
def get(id: str) -> Any:
    if not parts().redis.exists(_record(id)):
        raise RequestError(
            RequestCode.SEARCH_NOT_FOUND,
            f"There is no search `{id[:100]}`. Searches can be read for {parts().settings.search_ttl} s.",
        )
    answer = parts().broker.wait(id, 0)
    return {"id": id, "state": "pending"} if answer is None else _result(id, answer)


def _send(query: Query) -> str:
    """Put the search on its queue; returns its id. An id without our own record is unknown, or has expired."""
    id = uuid.uuid4().hex
    parts().redis.set(_record(id), query.collection, ex=parts().settings.search_ttl)
    message = query.model_copy(update={"sent_at": time.time()}).model_dump(exclude_none=True)
    return parts().broker.send(SEARCH, message, task_id=id, expires=parts().settings.search_ttl)


def _answer_within(seconds: int, id: str) -> Any | None:
    with lending():
        return parts().broker.wait(id, seconds)


def _record(id: str) -> str:
    return f"lookalike:search:{id}"


def _seconds_to_wait() -> int:
    """`Prefer: wait=N` (RFC 7240); a preference that cannot be read is no preference."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), limits.MAX_WAIT_SECONDS) if found else 0


def _raise_what_the_client_did_wrong(answer: dict[str, Any]) -> None:
    """A failure code belongs to the picture, and is a result; a request's code is the request's."""
    failure = answer.get("problem", {})
    code = code_of(failure["code"]) if failure else None
    if isinstance(code, RequestCode):
        raise RequestError(code, failure["detail"])


def _result(id: str, answer: dict[str, Any]) -> dict[str, Any]:
    result = {"id": id, **answer}
    if "problem" in answer:
        result["problem"] = problem(code_of(answer["problem"]["code"]), answer["problem"]["detail"])
    return result

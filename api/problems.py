"""Error → `application/problem+json` (RFC 9457): the one place that chooses a status."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

import redis
from flask import Flask, Response, g
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from shared.errors import (
    FailureCode,
    FilesUnavailable,
    LookalikeError,
    QueueUnavailable,
    RequestCode,
    RequestError,
)

log = logging.getLogger("lookalike.api")

RETRY_AFTER_SECONDS = 5

_STATUS = {
    RequestCode.INVALID_REQUEST: 422,
    RequestCode.INVALID_BODY: 400,
    RequestCode.INVALID_ITEM: 422,
    RequestCode.INVALID_FILTER: 422,
    RequestCode.INVALID_NAME: 422,
    RequestCode.TEXT_UNSUPPORTED: 422,
    RequestCode.UNSUPPORTED_MEDIA_TYPE: 415,
    RequestCode.NOT_IMPLEMENTED: 501,
    RequestCode.BODY_TOO_LARGE: 413,
    RequestCode.UNAUTHORIZED: 401,
    RequestCode.FORBIDDEN: 403,
    RequestCode.NOT_FOUND: 404,
    RequestCode.COLLECTION_NOT_FOUND: 404,
    RequestCode.IMAGE_NOT_FOUND: 404,
    RequestCode.JOB_NOT_FOUND: 404,
    RequestCode.SEARCH_NOT_FOUND: 404,
    RequestCode.METHOD_NOT_ALLOWED: 405,
    RequestCode.MODEL_CONFLICT: 409,
    RequestCode.MODEL_UNAVAILABLE: 422,
    RequestCode.JOB_CANCELLED: 409,
    RequestCode.IDEMPOTENCY_CONFLICT: 422,
    RequestCode.REQUEST_IN_PROGRESS: 409,
    RequestCode.REQUEST_TIMEOUT: 408,
    RequestCode.RATE_LIMITED: 429,
    RequestCode.BACKLOG_FULL: 429,
    RequestCode.QUEUE_UNAVAILABLE: 503,
    RequestCode.WORKERS_UNAVAILABLE: 503,
    RequestCode.INDEX_UNAVAILABLE: 503,
    RequestCode.FILES_UNAVAILABLE: 503,
    RequestCode.INTERNAL: 500,
}
_CODE_OF_STATUS = {
    404: RequestCode.NOT_FOUND,
    405: RequestCode.METHOD_NOT_ALLOWED,
    413: RequestCode.BODY_TOO_LARGE,
    415: RequestCode.UNSUPPORTED_MEDIA_TYPE,
    500: RequestCode.INTERNAL,
}
_UNKNOWN_ROUTE = "Nothing stands at this address. `GET /openapi.json` lists what does, `GET /docs` shows it."
_TOO_LARGE = (
    "The body is larger than this server takes (LOOKALIKE_MAX_BODY_BYTES); send it in several requests."
)
_REDIS_FULL = "Redis has no memory left: nothing more is taken until workers have done some."
_INTERNAL = "Something broke on our side. The server's log has it under this request id."


class Unprocessable(RequestError):
    """Well-formed, and still not what can be done: 422 where its code alone would say another status."""


def not_built(field: str) -> Unprocessable:
    """The refusal of a field of the contract that this version does not serve."""
    return Unprocessable(RequestCode.NOT_IMPLEMENTED, f"`{field}` is not built yet; leave it out.")


def invalid_field(error: ValidationError) -> RequestError:
    """The refusal of a body's first field that is not as it should be."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][:2])
    said = first["msg"]
    return RequestError(RequestCode.INVALID_REQUEST, f"`{place}`: {said[0].lower()}{said[1:]}.")


class Later(RequestError):
    """Nothing is wrong with the request but its moment; it is worth sending again `again_after` seconds."""

    def __init__(self, code: RequestCode, detail: str, *, again_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(code, detail)
        self.again_after = again_after


class BrokenSubmission(LookalikeError):
    """A body that went wrong after part of it was accepted as `job`, which is cancelled."""

    def __init__(self, cause: Exception, job: str) -> None:
        self.cause = problem_of(cause)
        self.job = job
        super().__init__(
            f"{self.cause['detail']} Job `{job}` had begun and is cancelled: what was not started is never done."
        )


def problem(code: RequestCode | FailureCode, detail: str, status: int | None = None) -> dict[str, Any]:
    """The members of a problem but `request_id`. A picture's own fault has the status 422."""
    status = status or (_STATUS[code] if isinstance(code, RequestCode) else 422)
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": str(code),
    }


def code_of(word: str) -> RequestCode | FailureCode:
    """The code that a worker's answer names."""
    return RequestCode(word) if word in set(RequestCode) else FailureCode(word)


def problem_of(error: Exception) -> dict[str, Any]:
    """What a client is told of `error`."""
    match error:
        case BrokenSubmission():
            return {**error.cause, "detail": error.detail, "job": error.job}
        case Unprocessable():
            return problem(error.code, error.detail, status=422)
        case Later():
            return problem(error.code, error.detail) | {"retry_after": error.again_after}
        case RequestError():
            return problem(error.code, error.detail)
        case FilesUnavailable():
            return problem(RequestCode.FILES_UNAVAILABLE, error.detail)
        case QueueUnavailable():
            return problem(RequestCode.QUEUE_UNAVAILABLE, error.detail)
        case redis.OutOfMemoryError():
            return problem_of(Later(RequestCode.BACKLOG_FULL, _REDIS_FULL))
        case redis.RedisError():
            return problem(RequestCode.QUEUE_UNAVAILABLE, f"Redis does not answer: {error}")
        case RequestEntityTooLarge():
            return problem(RequestCode.BODY_TOO_LARGE, _TOO_LARGE)
        case HTTPException(code=int(status), description=description):
            detail = _UNKNOWN_ROUTE if status == 404 else description or HTTPStatus(status).phrase
            return problem(_CODE_OF_STATUS.get(status, RequestCode.INVALID_REQUEST), detail, status)
    return problem(RequestCode.INTERNAL, _INTERNAL)


def problem_response(members: dict[str, Any]) -> Response:
    """The answer that carries a problem."""
    response = Response(
        json.dumps({**members, "request_id": g.request_id}),
        status=members["status"],
        mimetype="application/problem+json",
    )
    if members["status"] == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="lookalike"'
    if "retry_after" in members or members["status"] == 503:
        response.headers["Retry-After"] = str(members.get("retry_after", RETRY_AFTER_SECONDS))
    return response


def answer_errors(app: Flask) -> None:
    """Whatever is raised while a request is served becomes a problem; what nobody foresaw is logged too."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Any:
        if isinstance(error, HTTPException) and (error.code or 500) < 400:
            return error  # a redirect
        members = problem_of(error)
        if members["status"] >= 500:
            _log(error, members)
        response = problem_response(members)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response


def _log(error: Exception, members: dict[str, Any]) -> None:
    unforeseen = members["status"] == 500
    log.log(
        logging.ERROR if unforeseen else logging.WARNING,
        "%s",
        members["detail"],
        exc_info=error if unforeseen else None,
        extra={"request": g.request_id, "code": members["code"]},
    )

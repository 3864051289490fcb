"""The error tree and the closed lists of codes. Every error says whether retrying helps.

Three exits (ARCHITECTURE.md): the client's fault is a `RequestError` and becomes a 4xx; the image's fault is
an `ItemError` and becomes a failure row; a service's fault is a `ServiceError` and is tried again.
"""

from __future__ import annotations

import copyreg
from enum import StrEnum
from typing import Any


class FailureCode(StrEnum):
    """Why one item failed. Closed: docs/failures.md explains each, and a test holds the two together."""

    BAD_URL = "bad_url"
    ADDRESS_REFUSED = "address_refused"
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    HTTP_STATUS = "http_status"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    TOO_LARGE = "too_large"
    CONTENT_ENCODING = "content_encoding"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    TOO_MANY_PIXELS = "too_many_pixels"
    DECODE_FAILED = "decode_failed"
    DECODE_CRASHED = "decode_crashed"
    PAYLOAD_INVALID = "payload_invalid"
    CANCELLED = "cancelled"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"


RETRYABLE = frozenset(
    {
        FailureCode.DNS_FAILED,
        FailureCode.CONNECT_FAILED,
        FailureCode.TIMEOUT,
        FailureCode.TRUNCATED,
        FailureCode.CANCELLED,
        FailureCode.ATTEMPTS_EXHAUSTED,
    }
)


class RequestCode(StrEnum):
    """Why a request was refused. `api/problems.py` gives each its status."""

    INVALID_REQUEST = "invalid_request"
    INVALID_BODY = "invalid_body"
    INVALID_ITEM = "invalid_item"
    INVALID_FILTER = "invalid_filter"
    INVALID_NAME = "invalid_name"
    TEXT_UNSUPPORTED = "text_unsupported"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_IMPLEMENTED = "not_implemented"
    BODY_TOO_LARGE = "body_too_large"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    COLLECTION_NOT_FOUND = "collection_not_found"
    IMAGE_NOT_FOUND = "image_not_found"
    JOB_NOT_FOUND = "job_not_found"
    SEARCH_NOT_FOUND = "search_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MODEL_CONFLICT = "model_conflict"
    MODEL_UNAVAILABLE = "model_unavailable"
    JOB_CANCELLED = "job_cancelled"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    REQUEST_IN_PROGRESS = "request_in_progress"
    REQUEST_TIMEOUT = "request_timeout"
    RATE_LIMITED = "rate_limited"
    BACKLOG_FULL = "backlog_full"
    QUEUE_UNAVAILABLE = "queue_unavailable"
    WORKERS_UNAVAILABLE = "workers_unavailable"
    INDEX_UNAVAILABLE = "index_unavailable"
    FILES_UNAVAILABLE = "files_unavailable"
    INTERNAL = "internal"


class LookalikeError(Exception):
    """Anything we raise on purpose. `str(error)` is a sentence for a person."""

    retryable = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it stands, whatever its constructor asks for: errors cross from process to process."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ItemError(LookalikeError):
    """One item's own fault: it is recorded, and its chunk goes on.

    `again_after` is set where the fault may pass by itself (a host that is busy or away): seconds before the item
    is worth another try, 0 where nobody said.
    """

    def __init__(
        self,
        code: FailureCode,
        detail: str,
        *,
        retryable: bool | None = None,
        again_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.again_after = again_after
        self.retryable = code in RETRYABLE or again_after is not None if retryable is None else retryable


class RequestError(LookalikeError):
    """The client's fault, or an answer that cannot be given now; it crosses the queue as data."""

    def __init__(self, code: RequestCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class ServiceError(LookalikeError):
    """A part that Lookalike leans on does not answer: the work is sound, so it is tried again."""

    retryable = True


class QueueUnavailable(ServiceError):
    """Redis does not answer."""


class OutOfMemory(ServiceError):
    """The device has no memory left for a batch of this size."""


class ModelBroken(ServiceError):
    """The model or its device answers nothing any more: only a new process helps."""


class ModelAway(ServiceError):
    """A model cannot be had at the moment: its hub does not answer, or it is still being loaded."""


class IndexUnavailable(ServiceError):
    """The vector engine does not answer."""


class FilesUnavailable(ServiceError):
    """Where files are kept does not answer."""


class ModelMismatch(LookalikeError):
    """This worker's model is not the collection's; mixing their vectors would spoil every search."""


class StartError(LookalikeError):
    """A process cannot start; the sentence says what to change."""

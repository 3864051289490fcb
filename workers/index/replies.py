"""What goes wrong at a Qdrant server, in our own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from shared.errors import IndexUnavailable, LookalikeError, RequestCode, RequestError
from workers.index.interface import Filter
from workers.index.refusals import invalid_filter, no_collection


@contextmanager
def asking(url: str, name: str = "", filter: Filter | None = None) -> Iterator[None]:
    """A question to the server at `url`, of collection `name`, under `filter`.

    IndexUnavailable where it does not answer, RequestError where it refuses what was asked.
    """
    try:
        yield
    except (ResponseHandlingException, ResourceExhaustedResponse, JSONDecodeError) as error:
        reason = getattr(error, "source", error)
        raise IndexUnavailable(f"Qdrant at {url} does not answer: {reason}") from error
    except UnexpectedResponse as error:
        raise _refusal(url, error, name, filter) from error


def _refusal(url: str, error: UnexpectedResponse, name: str, filter: Filter | None) -> LookalikeError:
    reason = _reason(error)
    if error.status_code == 404 and name:
        return no_collection(name)
    if error.status_code in (400, 409, 422):
        return invalid_filter(reason) if filter else RequestError(RequestCode.INVALID_REQUEST, reason)
    if error.status_code in (401, 403):
        reason = "it refuses the API key, so set QDRANT_API_KEY"
    return IndexUnavailable(f"Qdrant at {url} answered {error.status_code}: {reason}")


def _reason(error: UnexpectedResponse) -> str:
    """What Qdrant says went wrong, or the start of whatever answered in its place."""
    try:
        return str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return error.content[:200].decode(errors="replace")

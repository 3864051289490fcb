"""A thin client of the HTTP API: JSON in, JSON out, and one clear line for what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from cli.address import is_loopback
from cli.errors import Problem
from shared.settings import Settings

_TIMEOUTS = (5, 120)  # seconds to connect, and between two signs of life
_PATIENCE_SECONDS = 90.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})


class _Bearer(AuthBase):
    """The key. As `auth`, because a plain header would lose to an entry of ~/.netrc."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Client:
    """Every method raises Problem where the API refuses or does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(urlsplit(self._url).hostname or "")  # no proxy to ourselves
        self._session.auth = _Bearer(settings.api_key) if settings.api_key else None

    def get(self, path: str, **params: Any) -> Any:
        """The JSON that stands there."""
        return self._body(self._send("GET", path, params=params))

    def post(self, path: str, **request: Any) -> Any:
        """The JSON that answers a body, which is given as `requests` spells it."""
        return self._body(self._send("POST", path, **request))

    def put(self, path: str, body: Any) -> Any:
        """The JSON that answers once `body` stands there."""
        return self._body(self._send("PUT", path, json=body))

    def file(self, path: str) -> bytes | None:
        """The bytes that stand there, None where nothing does."""
        try:
            answer = self._request("GET", path)
        except requests.RequestException as error:
            raise self._no_answer(error) from error
        return None if answer.status_code == requests.codes.not_found else self._checked(answer).content

    def poll(self, path: str, **params: Any) -> Any:
        """The JSON that stands there, though the server restart or ask for patience meanwhile."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = self._request("GET", path, params=params)
                if answer.status_code not in _TRY_AGAIN or time.monotonic() > deadline:
                    return self._body(self._checked(answer))
                time.sleep(_retry_after(answer))
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    raise self._no_answer(error) from error
                time.sleep(1)

    def pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every row of a list, page after page."""
        cursor = None
        while True:
            page = self.get(path, limit=1000, cursor=cursor, **params)
            yield from page[key]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def delete(self, path: str) -> None:
        """Delete, or cancel, what stands there."""
        self._send("DELETE", path)

    def _send(self, method: str, path: str, **request: Any) -> requests.Response:
        try:
            return self._checked(self._request(method, path, **request))
        except requests.RequestException as error:
            raise self._no_answer(error) from error

    def _request(self, method: str, path: str, **request: Any) -> requests.Response:
        return self._session.request(method, self._url + path, timeout=_TIMEOUTS, **request)

    def _checked(self, answer: requests.Response) -> requests.Response:
        if answer.ok:
            return answer
        problem = self._body(answer)
        raise Problem(problem.get("detail") or problem.get("title") or answer.reason, problem.get("code"))

    def _body(self, answer: requests.Response) -> Any:
        try:
            body = answer.json()
        except requests.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise Problem(
                f"{self._url} answered {answer.status_code} {answer.reason}, and not as Lookalike does. "
                "Check LOOKALIKE_URL."
            )
        return body

    def _no_answer(self, error: requests.RequestException) -> Problem:
        if isinstance(error, ValueError):
            return Problem(f"LOOKALIKE_URL is no URL that can be asked: {error}")
        cause = getattr(error.args[0] if error.args else None, "reason", None)
        if isinstance(cause, NewConnectionError | ConnectTimeoutError):
            return Problem(
                f"No Lookalike at {self._url}; start one with `lookalike up`, or set LOOKALIKE_URL."
            )
        return Problem(f"The connection to {self._url} broke: {error}")


def collection_path(name: str, below: str = "") -> str:
    """Where a collection stands, or what stands below it: `/jobs`, `/images`, `/searches`."""
    return f"/v1/collections/{quote(name, safe='')}{below}"


def version_key(about: dict[str, Any]) -> str:
    """`shop@2`: the one version that the API describes in `about`, whatever becomes of the name meanwhile."""
    return f"{about['name']}@{about['version']}"


def job_path(job: str, below: str = "") -> str:
    """Where a job stands, or its `/failures`."""
    return f"/v1/jobs/{quote(job, safe='')}{below}"


def _retry_after(answer: requests.Response) -> float:
    seconds = answer.headers.get("Retry-After", "")
    return min(float(seconds), 30.0) if seconds.isdigit() else 1.0

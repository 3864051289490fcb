"""A client whose body comes slowly, so that what serves it can die in the middle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import requests

_PAUSE_SECONDS = 0.02
_LINE_BYTES = 4000  # the API reads in blocks, and each shall bring it some items


@contextmanager
def broken_post(url: str, submission: Sequence[dict[str, Any]]) -> Iterator[None]:
    """POST items one by one while the block runs, which must see to it that the client gets no answer."""
    with ThreadPoolExecutor(1) as client:
        headers = {"Content-Type": "application/x-ndjson"}
        sent = client.submit(requests.post, url, data=_lines(submission), headers=headers, timeout=60)
        yield
        error = sent.exception()
    assert isinstance(error, requests.RequestException), error or sent.result()


def _lines(submission: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    for item in submission:
        yield json.dumps(item).ljust(_LINE_BYTES).encode() + b"\n"
        time.sleep(_PAUSE_SECONDS)

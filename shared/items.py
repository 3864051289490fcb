"""One item: what may stand in it, and what of it becomes a failure row instead of harming the others."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

from shared.contract import MAX_ID_LENGTH, Item, Refusal
from shared.errors import FailureCode

MAX_URL_LENGTH = 8192  # characters
MAX_PAYLOAD_DEPTH = 16  # objects and lists inside each other
MAX_INTEGER = 2**63  # payload integers are 64 bits in the vector engine

_WEB_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)


def checked_item(url: str, id: Any, payload: Any) -> Item:
    """An item; what is unusable makes it a refused one, that will fail by itself."""
    refusal = id_refusal(id) or _url_refusal(url, is_id=id is None) or payload_refusal(payload)
    if refusal is None:
        return Item(id=id or default_id(url), url=url, payload=payload or {})
    return refused_item(id if isinstance(id, str) and id else default_id(url), refusal, url)


def refused_item(id: str | None, refusal: Refusal, url: str | None = None) -> Item:
    """An item that will fail by itself."""
    return Item(
        id=(id or default_id(url or ""))[:MAX_ID_LENGTH], url=url and url[:MAX_URL_LENGTH], refused=refusal
    )


def default_id(url: str) -> str:
    """The URL itself, or its hash where it is longer than an id may be, or empty."""
    if 0 < len(url) <= MAX_ID_LENGTH:
        return url
    return f"url-sha256:{hashlib.sha256(url.encode(errors='replace')).hexdigest()}"


def id_refusal(id: Any) -> Refusal | None:
    """Why an id cannot be kept, None where it can, or where there is none."""
    if id is None or (isinstance(id, str) and 0 < len(id) <= MAX_ID_LENGTH):
        return None
    return payload_invalid(f"`id` must be a string of 1 to {MAX_ID_LENGTH} characters.", unnamed=True)


def payload_refusal(payload: Any) -> Refusal | None:
    """Why a payload cannot be kept, None where it can."""
    if payload is None:
        return None
    if not isinstance(payload, dict):
        return payload_invalid("`payload` must be an object.")
    for field in payload:
        if field.startswith("_"):
            return payload_invalid(f"`{field[:100]}`: fields that begin with `_` are the system's own.")
    flaw = _flaw(payload, 1)
    return payload_invalid(f"`payload` {flaw}.") if flaw else None


def payload_invalid(why: str, *, unnamed: bool = False) -> Refusal:
    """The refusal of an item that cannot be kept as the client gave it."""
    return Refusal(code=FailureCode.PAYLOAD_INVALID, detail=why, unnamed=unnamed)


def bad_url(url: str, why: str, *, is_id: bool = False) -> Refusal:
    """The refusal of what is no URL. A list of them that is cut off stood for several images."""
    return Refusal(code=FailureCode.BAD_URL, detail=why, unnamed=is_id or url.startswith("["))


def _url_refusal(url: str, *, is_id: bool) -> Refusal | None:
    """Why a URL cannot be fetched, None where it can. Where there is no other id, it is the id that cannot be read."""
    if len(url) > MAX_URL_LENGTH:
        why = f"The URL has {len(url):,} characters, {MAX_URL_LENGTH:,} are allowed."
    elif _WEB_URL.fullmatch(url):
        return None
    elif not url:
        why = "The URL is empty."
    else:
        why = f"`{url[:200]}` is no http or https URL, or has spaces or control characters in it."
    return bad_url(url, why, is_id=is_id)


def _flaw(value: Any, depth: int) -> str | None:
    """What in an object or list the vector engine would not keep as it stands."""
    if depth > MAX_PAYLOAD_DEPTH:
        return f"is nested deeper than {MAX_PAYLOAD_DEPTH}"
    for member in value.values() if isinstance(value, dict) else value:
        if isinstance(member, float) and not math.isfinite(member):
            return "has a number that is not finite"
        if isinstance(member, int) and not -MAX_INTEGER <= member < MAX_INTEGER:
            return "has a whole number of more than 64 bits"
        if isinstance(member, dict | list) and (flaw := _flaw(member, depth + 1)):
            return flaw
    return None

"""One item: what may stand in it, and what of it becomes a failure row instead of harming the others."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

from api import limits
from api.problems import not_built
from shared.contract import MAX_ID_LENGTH, Item, Refusal
from shared.errors import FailureCode, RequestCode, RequestError

_FIELDS = frozenset({"id", "url", "payload"})
_WEB_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)


def item_from(raw: Any, place: str, number: int) -> Item:
    """The item that a client's object stands for. RequestError(INVALID_ITEM) where it is no item at all.

    `place` and `number` say where it stood: "Line", 3.
    """
    if not isinstance(raw, dict):
        raise not_an_item(place, number, 'it must be an object such as {"url": "https://…"}')
    if not raw.keys() <= _FIELDS:
        unknown = min(raw.keys() - _FIELDS)
        if unknown == "callback_url":
            raise not_built(unknown)
        raise not_an_item(
            place,
            number,
            f"`{unknown[:100]}` is not a field of an item; the client's own fields go in `payload`",
        )
    if not isinstance(raw.get("url"), str):
        raise not_an_item(
            place, number, "its `url` is missing" if "url" not in raw else "`url` must be a string"
        )
    return checked_item(raw["url"], raw.get("id"), raw.get("payload"))


def checked_item(url: str, id: Any, payload: Any) -> Item:
    """An item; what is unusable makes it a refused one, that will fail by itself."""
    refusal = _url_refusal(url) or _id_refusal(id) or payload_refusal(payload)
    if refusal is None:
        return Item(id=id or default_id(url), url=url, payload=payload or {})
    usable = id if isinstance(id, str) and id else default_id(url)
    return Item(id=usable[:MAX_ID_LENGTH], url=url[: limits.MAX_URL_LENGTH], refused=refusal)


def default_id(url: str) -> str:
    """The URL itself, or its hash where it is longer than an id may be, or empty."""
    if 0 < len(url) <= MAX_ID_LENGTH:
        return url
    return f"url-sha256:{hashlib.sha256(url.encode()).hexdigest()}"


def not_an_item(place: str, number: int, why: str) -> RequestError:
    """The refusal of a whole body for the sake of one of its items."""
    return RequestError(RequestCode.INVALID_ITEM, f"{place} {number:,}: {why}.")


def _url_refusal(url: str) -> Refusal | None:
    if len(url) > limits.MAX_URL_LENGTH:
        why = f"The URL has {len(url):,} characters, {limits.MAX_URL_LENGTH:,} are allowed."
    elif _WEB_URL.fullmatch(url):
        return None
    elif not url:
        why = "The URL is empty."
    else:
        why = f"`{url[:200]}` is no http or https URL, or has spaces or control characters in it."
    return Refusal(code=FailureCode.BAD_URL, detail=why)


def _id_refusal(id: Any) -> Refusal | None:
    if id is None or (isinstance(id, str) and 0 < len(id) <= MAX_ID_LENGTH):
        return None
    return _payload_invalid(f"`id` must be a string of 1 to {MAX_ID_LENGTH} characters.")


def payload_refusal(payload: Any) -> Refusal | None:
    """Why a payload cannot be kept, None where it can."""
    if payload is None:
        return None
    if not isinstance(payload, dict):
        return _payload_invalid("`payload` must be an object.")
    for field in payload:
        if field.startswith("_"):
            return _payload_invalid(f"`{field[:100]}`: fields that begin with `_` are the system's own.")
    flaw = _flaw(payload, 1)
    return _payload_invalid(f"`payload` {flaw}.") if flaw else None


def _payload_invalid(why: str) -> Refusal:
    return Refusal(code=FailureCode.PAYLOAD_INVALID, detail=why)


def _flaw(value: Any, depth: int) -> str | None:
    """What in an object or list the vector engine would not keep as it stands."""
    if depth > limits.MAX_PAYLOAD_DEPTH:
        return f"is nested deeper than {limits.MAX_PAYLOAD_DEPTH}"
    for member in value.values() if isinstance(value, dict) else value:
        if isinstance(member, float) and not math.isfinite(member):
            return "has a number that is not finite"
        if isinstance(member, int) and not -limits.MAX_INTEGER <= member < limits.MAX_INTEGER:
            return "has a whole number of more than 64 bits"
        if isinstance(member, dict | list) and (flaw := _flaw(member, depth + 1)):
            return flaw
    return None

"""Who may do what: keys and their scopes. A route that is not in the table is the administrator's alone."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import redis
from flask import Flask, g, request
from limits.storage import MemoryStorage, RedisStorage

from api.admission import Rate, parse_rate
from api.keys import Key, Keys
from api.parts import Parts
from shared.errors import RequestCode, RequestError, StartError
from shared.settings import Settings

_OPEN: frozenset[str] = frozenset()
_READERS = frozenset({"search", "ingest"})
_SEARCHERS = frozenset({"search"})
_SUBMITTERS = frozenset({"ingest"})
_ADMINS = frozenset({"admin"})

# Any one of a route's scopes is enough, and `admin` is always; _OPEN asks for no key.
ROUTES = {
    "health.livez": _OPEN,
    "health.readyz": _OPEN,
    "docs.openapi": _OPEN,
    "docs.page": _OPEN,
    "swagger_ui.show": _OPEN,
    "collections.list_all": _READERS,
    "collections.get": _READERS,
    "collections.put": _SUBMITTERS,
    "collections.delete": _ADMINS,
    "collections.facets": _READERS,
    "versions.list_all": _READERS,
    "versions.comparison": _READERS,
    "versions.add": _ADMINS,
    "versions.copy": _ADMINS,
    "versions.go_live": _ADMINS,
    "versions.drop": _ADMINS,
    "images.list_all": _READERS,
    "images.get": _READERS,
    "images.thumbnail": _READERS,
    "images.upload": _SUBMITTERS,
    "images.delete": _ADMINS,
    "imports.submit": _SUBMITTERS,
    "jobs.submit": _SUBMITTERS,
    "jobs.list_all": _SUBMITTERS,
    "jobs.get": _SUBMITTERS,
    "jobs.failures": _SUBMITTERS,
    "jobs.retry": _SUBMITTERS,
    "jobs.cancel": _ADMINS,
    "searches.search": _SEARCHERS,
    "searches.batch": _SEARCHERS,
    "searches.get": _SEARCHERS,
}


# An address that presents so many unknown keys is not heard for a while. Counted in each process's own memory:
# strangers cost Redis nothing.
_WRONG_KEYS = "100/minute"


def caller() -> str:
    """The name of the key that this request came with; `open` where none is asked for."""
    return str(g.get("key_name", "open"))


def guard(app: Flask, settings: Settings) -> None:
    """Refuse what a request's key or its rate does not allow, before its body is read.

    StartError where the keys or the rate are misspelt, or where there are no keys and the API is not for this
    machine alone.
    """
    client = cast(Parts, app.extensions["lookalike"]).redis
    rate = _rate_of_keys(client, settings.rate_limit)
    if settings.api_keys is not None:
        app.before_request(_checker(Keys(settings.api_keys), rate))
    else:
        refuse_open_door(settings.host, "LOOKALIKE_HOST=127.0.0.1")
        app.before_request(_refuse_other_names)


def refuse_open_door(host: str, otherwise: str) -> None:
    """StartError where an API without keys would serve more than this machine; `otherwise` is the other way out."""
    if not _is_loopback(host):
        raise StartError(
            f"Serving on {host} without keys would let everyone in. Set LOOKALIKE_API_KEYS "
            f"(`lookalike keys` makes one), or {otherwise}."
        )


def _rate_of_keys(client: redis.Redis, spelt: str | None) -> Rate | None:
    """Shared by every process of the API, over the Redis connections that it has."""
    if spelt is None:
        return None
    storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="lookalike:rate")
    return Rate(storage, parse_rate(spelt), "This key sends too many requests")


def _refuse_other_names() -> None:
    """Without keys, a web page must not reach in through its visitor's browser (DNS rebinding, cross-site forms)."""
    if ROUTES.get(request.endpoint or "") is _OPEN:
        return
    origin = request.headers.get("Origin")
    names = [_host_of(f"//{request.host}"), *([_host_of(origin)] if origin else [])]
    if not all(_is_loopback(name) for name in names):
        raise RequestError(
            RequestCode.FORBIDDEN,
            "Without keys only this machine's own names are served (127.0.0.1, localhost), and no web page of "
            "another site. Set LOOKALIKE_API_KEYS.",
        )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _checker(keys: Keys, rate: Rate | None) -> Callable[[], None]:
    wrong_keys = Rate(
        MemoryStorage(), parse_rate(_WRONG_KEYS), "Too many unknown keys came from this address"
    )

    def check() -> None:
        wanted = ROUTES.get(request.endpoint or "", _ADMINS)
        if request.endpoint is None or wanted is _OPEN:
            return
        key = _key_of_request(keys, wrong_keys)
        g.key_name = key.name
        if rate:
            _count(rate, key.name)
        if not key.scopes & (wanted | _ADMINS):
            raise RequestError(
                RequestCode.FORBIDDEN,
                f"This needs a key of scope {_either(wanted)}; yours has {' and '.join(sorted(key.scopes))}.",
            )

    return check


def _key_of_request(keys: Keys, wrong_keys: Rate) -> Key:
    key, address = keys.find(_presented_key()), request.remote_addr or "unix socket"
    if key is None:
        wrong_keys.count(address)
        raise RequestError(RequestCode.UNAUTHORIZED, "This key is not known here.")
    if key.can_be_guessed:
        # Else guessing would go on. Made keys pass: strangers behind the same proxy must not lock their holders out.
        wrong_keys.check(address)
    return key


def _count(rate: Rate, name: str) -> None:
    """A Redis that is away is a 503 here as anywhere, since hardly a route could be served without it.

    One that is full counts nothing: what only reads goes on, and submissions are refused for their own reason.
    """
    with contextlib.suppress(redis.OutOfMemoryError):
        rate.count(name)


def _presented_key() -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise RequestError(RequestCode.UNAUTHORIZED, "Send your key as `Authorization: Bearer <key>`.")
    return key.strip()


def _either(scopes: frozenset[str]) -> str:
    return " or ".join(f"`{scope}`" for scope in sorted(scopes))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

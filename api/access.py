"""Who may do what: keys and their scopes. A route that is not in the table is the administrator's alone."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Flask, request

from shared.errors import RequestCode, RequestError, StartError
from shared.settings import Settings

SCOPES = frozenset({"search", "ingest", "admin"})

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
    "images.list_all": _READERS,
    "images.get": _READERS,
    "images.thumbnail": _READERS,
    "images.upload": _SUBMITTERS,
    "images.delete": _ADMINS,
    "jobs.submit": _SUBMITTERS,
    "jobs.list_all": _SUBMITTERS,
    "jobs.get": _SUBMITTERS,
    "jobs.failures": _SUBMITTERS,
    "jobs.retry": _SUBMITTERS,
    "jobs.cancel": _ADMINS,
    "searches.search": _SEARCHERS,
    "searches.get": _SEARCHERS,
}


class Keys:
    """The keys of LOOKALIKE_API_KEYS, `key=scope+scope,key=scope`, each with its scopes."""

    def __init__(self, spelt: str) -> None:
        self._scopes: dict[bytes, frozenset[str]] = {}
        for place, entry in enumerate(spelt.split(","), start=1):
            key, _, words = entry.strip().rpartition("=")
            scopes = frozenset(words.split("+"))
            # The sentence names the entry's place, never the key.
            if not key or not key.isascii() or not scopes <= SCOPES or key.encode() in self._scopes:
                raise StartError(
                    f"LOOKALIKE_API_KEYS, entry {place}: write `key=scope+scope`, each ASCII key once, "
                    f"the scopes from {', '.join(sorted(SCOPES))}."
                )
            self._scopes[key.encode()] = scopes

    def scopes_of(self, presented: str) -> frozenset[str] | None:
        """The scopes of a key, None where it is none of ours. Every key is compared, each in constant time."""
        given, found = presented.encode(), None
        for key, scopes in self._scopes.items():
            if hmac.compare_digest(key, given):
                found = scopes
        return found


def guard(app: Flask, settings: Settings) -> None:
    """Refuse what a request's key does not allow, before its body is read.

    StartError where the keys are misspelt, or where there are none and the API is not for this machine alone.
    """
    if settings.api_keys is None:
        if not _is_loopback(settings.host):
            raise StartError(
                f"Serving on {settings.host} without keys would let everyone in. Set LOOKALIKE_API_KEYS "
                "(`key=search+ingest+admin`), or LOOKALIKE_HOST=127.0.0.1."
            )
        app.before_request(_refuse_other_names)
        return
    app.before_request(_checker(Keys(settings.api_keys)))


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


def _checker(keys: Keys) -> Callable[[], None]:
    def check() -> None:
        wanted = ROUTES.get(request.endpoint or "", _ADMINS)
        if request.endpoint is None or wanted is _OPEN:
            return
        held = keys.scopes_of(_presented_key())
        if held is None:
            raise RequestError(RequestCode.UNAUTHORIZED, "This key is not known here.")
        if not held & (wanted | _ADMINS):
            raise RequestError(
                RequestCode.FORBIDDEN,
                f"This needs a key of scope {_either(wanted)}; yours has {' and '.join(sorted(held))}.",
            )

    return check


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

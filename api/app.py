"""The WSGI application, which `api/server.py` serves."""

from __future__ import annotations

import re
import uuid

from flask import Flask, Response, g, request

from api import limits
from api.access import guard
from api.arguments import VersionNumber, WholePath
from api.collections import collections
from api.docs import docs, swagger_ui
from api.headers import HEADERS
from api.health import health
from api.images import images
from api.imports import imports
from api.jobs import jobs
from api.parts import build_parts
from api.problems import answer_errors
from api.searches import searches
from api.versions import versions
from shared.settings import Settings
from shared.telemetry import log_to_stderr

_REQUEST_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{limits.MAX_REQUEST_ID_LENGTH}}}")


def create_app(settings: Settings | None = None) -> Flask:
    """Without settings they are read from the environment, and logs go to stderr. StartError says what to change."""
    if settings is None:
        settings = Settings()
        log_to_stderr(settings.log_level)
    app = Flask("lookalike", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=limits.MAX_JSON_BYTES,
        MAX_FORM_PARTS=settings.max_images_per_upload + limits.SPARE_PARTS,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # ids are often URLs
    app.url_map.converters.update(whole=WholePath, version=VersionNumber)
    app.extensions["lookalike"] = build_parts(settings)
    app.before_request(_name_the_request)
    guard(app, settings)
    answer_errors(app)
    for resource in (collections, images, imports, jobs, searches, versions, health, docs, swagger_ui):
        app.register_blueprint(resource)
    app.after_request(_finish)
    return app


def _name_the_request() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response

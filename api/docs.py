"""The description of the API, and the page to try it on, from files that the swagger package brings along."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from flask import Blueprint, Response, current_app, request
from flask_swagger_ui import get_swaggerui_blueprint

from api.headers import page_policy
from api.openapi import OPENAPI

docs = Blueprint("docs", __name__)
swagger_ui = get_swaggerui_blueprint(
    "/docs",
    "/openapi.json",
    {
        "app_name": "Lookalike",
        "validatorUrl": None,  # another's server
        "oauth2RedirectUrl": "/docs/oauth2-redirect.html",  # else the page repeats the request's Host
    },
)

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@docs.get("/openapi.json")
def openapi() -> Any:
    return OPENAPI


@docs.get("/docs")
def page() -> Any:
    """The same page as `/docs/`, without a redirect."""
    return current_app.view_functions["swagger_ui.show"]()


@docs.after_app_request
def _say_methods_without_a_body(response: Response) -> Response:
    """The answer to OPTIONS is its `Allow`."""
    if request.method == "OPTIONS" and response.status_code == 200:
        response.status_code = 204
        response.headers.pop("Content-Type", None)
    return response


@docs.after_request
@swagger_ui.after_request
def _allow_its_own_scripts(response: Response) -> Response:
    if response.mimetype == "text/html" and not response.direct_passthrough:
        hashes = (
            hashlib.sha256(script.encode()).digest()
            for script in _INLINE.findall(response.get_data(as_text=True))
        )
        allowed = (f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
        response.headers["Content-Security-Policy"] = page_policy(*allowed)
    return response

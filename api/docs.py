"""The description of the API, and the page to try it on, from files that the swagger package brings along."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app
from flask_swagger_ui import get_swaggerui_blueprint

from api.openapi import OPENAPI

docs = Blueprint("docs", __name__)
swagger_ui = get_swaggerui_blueprint("/docs", "/openapi.json", {"app_name": "Lookalike"})


@docs.get("/openapi.json")
def openapi() -> Any:
    return OPENAPI


@docs.get("/docs")
def page() -> Any:
    """The same page as `/docs/`, without a redirect."""
    return current_app.view_functions["swagger_ui.show"]()

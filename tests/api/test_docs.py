"""api/openapi.py against the routes, and the page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.openapi import OPENAPI

METHODS = {"GET", "PUT", "POST", "DELETE"}


def routes(app: Flask) -> set[tuple[str, str]]:
    return {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
        if not rule.endpoint.startswith(("docs.", "swagger_ui."))
    }


def described() -> set[tuple[str, str]]:
    return {(method, path) for path, methods in OPENAPI["paths"].items() for method in methods}


def test_every_route_is_described_and_nothing_else(app: Flask) -> None:
    assert routes(app) == described()


def test_every_name_in_a_path_is_a_parameter() -> None:
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            names = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert names == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(OPENAPI))):
        place: Any = OPENAPI
        for step in reference.split("/"):
            place = place[step]


def test_every_shape_that_is_described_is_used() -> None:
    text = json.dumps(OPENAPI)
    for name in OPENAPI["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text


def test_the_document_is_served(client: FlaskClient) -> None:
    assert client.get("/openapi.json").json == json.loads(json.dumps(OPENAPI))


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_and_all_that_it_loads_come_from_here(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 4
    for address in loaded:
        assert address.startswith("/docs/")
        assert client.get(address).status_code == 200, address
    assert '"/openapi.json"' in page

"""api/openapi.py against the routes, and the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.openapi import OPENAPI
from tests.api.test_server import serving_over_tcp

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


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_may_run_its_own_scripts_and_no_others(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    [inline] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_works_in_a_browser_under_its_policy(redis_url: str, tmp_path: Path) -> None:
    with serving_over_tcp(redis_url) as url:
        # fmt: off
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom", f"{url}/docs",
        ]
        # fmt: on
        seen = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert seen.stdout.count('class="opblock-summary-path"') >= len(OPENAPI["paths"])
    assert "Content Security Policy" not in seen.stderr

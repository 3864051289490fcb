"""api/access.py: keys and scopes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.access import ROUTES, SCOPES, Keys
from api.app import create_app
from shared.errors import StartError
from shared.settings import Settings
from tests.api.conftest import assert_problem

KEYS = "finder=search,filler=ingest,both=search+ingest,boss=admin,a=b==admin"
JOB = "/v1/jobs/job_00000000000000000000"


@pytest.fixture
def guarded(client_with: Callable[..., FlaskClient]) -> FlaskClient:
    return client_with(api_keys=KEYS)


def as_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_has_its_scopes(app: Flask) -> None:
    assert set(ROUTES) == set(app.view_functions)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer "}])
def test_without_a_key_one_is_asked_for(guarded: FlaskClient, headers: dict[str, str]) -> None:
    response = guarded.get(JOB, headers=headers)
    assert_problem(response, 401, "unauthorized", "Authorization: Bearer")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("key", ["wrong", "boss=admin", "bos", "bossy", "böss", "BOSS"])
def test_an_unknown_key_is_refused(guarded: FlaskClient, key: str) -> None:
    assert_problem(guarded.get(JOB, headers=as_key(key)), 401, "unauthorized", "not known")


@pytest.mark.parametrize(
    ("key", "method", "path", "allowed"),
    [
        ("finder", "GET", JOB, False),
        ("filler", "GET", JOB, True),
        ("both", "GET", JOB, True),
        ("boss", "GET", JOB, True),
        ("a=b=", "GET", JOB, True),
        ("finder", "GET", "/v1/searches/x", True),
        ("filler", "GET", "/v1/searches/x", False),
        ("filler", "POST", "/v1/collections/-/searches", False),
        ("finder", "POST", "/v1/collections/-/searches", True),
        ("finder", "POST", "/v1/collections/-/jobs", False),
        ("filler", "POST", "/v1/collections/-/jobs", True),
        ("finder", "POST", "/v1/collections/-/images", False),
        ("filler", "POST", "/v1/collections/-/images", True),
        ("finder", "PUT", "/v1/collections/-", False),
        ("filler", "PUT", "/v1/collections/-", True),
        ("finder", "GET", "/v1/collections/-", True),
        ("filler", "GET", "/v1/collections/-/images", True),
        ("both", "DELETE", "/v1/collections/-", False),
        ("both", "DELETE", "/v1/collections/-/images/x", False),
        ("both", "DELETE", JOB, False),
        ("boss", "DELETE", "/v1/collections/-", True),
        ("boss", "DELETE", JOB, True),
    ],
)
def test_a_key_opens_what_its_scopes_say(
    guarded: FlaskClient, key: str, method: str, path: str, allowed: bool
) -> None:
    response = guarded.open(path, method=method, headers=as_key(key))
    assert (response.status_code == 403) != allowed
    assert response.status_code != 401


def test_a_refusal_names_the_missing_scope(guarded: FlaskClient) -> None:
    response = guarded.post("/v1/collections/shop/jobs", headers=as_key("finder"))
    assert_problem(response, 403, "forbidden", "`ingest`", "yours has search")


@pytest.mark.parametrize("path", ["/livez", "/openapi.json", "/docs", "/docs/", "/docs/swagger-ui.css"])
def test_some_doors_are_open(guarded: FlaskClient, path: str) -> None:
    assert guarded.get(path).status_code == 200
    assert guarded.get("/readyz").status_code == 503


@pytest.mark.parametrize(
    "spelt", ["key", "=search", "key=", "key=serach", "a=search,", "a=search,a=ingest", "ü=admin"]
)
def test_misspelt_keys_stop_the_start(settings: Settings, spelt: str) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_API_KEYS, entry"):
        create_app(settings.model_copy(update={"api_keys": spelt}))


def test_the_sentence_about_misspelt_keys_keeps_them_secret() -> None:
    with pytest.raises(StartError) as error:
        Keys("hush=serach")
    assert "hush" not in str(error.value)


def test_scopes_are_these() -> None:
    assert set().union(*ROUTES.values()) == SCOPES


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "lookalike.example"])
def test_an_open_api_is_for_this_machine_alone(settings: Settings, host: str) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_API_KEYS"):
        create_app(settings.model_copy(update={"host": host}))
    create_app(settings.model_copy(update={"host": host, "api_keys": KEYS}))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(client_with: Callable[..., FlaskClient], host: str) -> None:
    assert_problem(client_with(host=host).get(JOB), 404, "job_not_found")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "127.0.0.1", "Origin": "http://evil.example"}, {"Host": "[x"}],
)
def test_without_keys_no_other_name_or_page_is_served(client: FlaskClient, headers: dict[str, str]) -> None:
    assert_problem(client.get("/v1/jobs", headers=headers), 403, "forbidden")
    assert client.get("/livez", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Host": "localhost:8080"}, {"Host": "[::1]:1", "Origin": "http://[::1]:1"}]
)
def test_without_keys_this_machines_own_names_are_served(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    assert client.get("/v1/jobs", headers=headers).status_code == 200

"""api/access.py: keys and scopes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.access import ROUTES
from api.app import create_app
from api.keys import SCOPES
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


@pytest.mark.parametrize("spelt", ["key", "a=search,b=serach"])
def test_misspelt_keys_stop_the_start(settings: Settings, spelt: str) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_API_KEYS, entry"):
        create_app(settings.model_copy(update={"api_keys": spelt}))


@pytest.mark.parametrize("api_keys", [KEYS, None])
@pytest.mark.parametrize(
    "rate", ["6000", "0/minute", "-1/minute", "5/month", "5 per minute", "5/minute;1/hour", "x"]
)
def test_a_misspelt_rate_stops_the_start(settings: Settings, api_keys: str | None, rate: str) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_RATE_LIMIT is"):
        create_app(settings.model_copy(update={"api_keys": api_keys, "rate_limit": rate}))


def test_a_key_is_slowed_down_at_its_rate_and_others_are_not(
    client_with: Callable[..., FlaskClient],
) -> None:
    client = client_with(api_keys=KEYS, rate_limit="3/hour")
    assert [client.get(JOB, headers=as_key("filler")).status_code for _ in range(4)] == [404] * 3 + [429]
    response = client.get(JOB, headers=as_key("filler"))
    assert_problem(response, 429, "rate_limited", "3 a hour")
    assert 1 <= int(response.headers["Retry-After"]) == response.json["retry_after"] <= 3600
    assert client.get(JOB, headers=as_key("both")).status_code == 404


def test_every_process_counts_on_the_same_sheet(client_with: Callable[..., FlaskClient]) -> None:
    one, other = (client_with(api_keys=KEYS, rate_limit="3/hour") for _ in range(2))
    codes = [client.get(JOB, headers=as_key("filler")).status_code for client in (one, other, one, other)]
    assert codes == [404] * 3 + [429]


def test_after_its_wait_a_key_is_heard_again(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(api_keys=KEYS, rate_limit="2/second")
    while (response := client.get(JOB, headers=as_key("filler"))).status_code == 404:
        pass
    assert response.status_code == 429
    time.sleep(int(response.headers["Retry-After"]))
    assert client.get(JOB, headers=as_key("filler")).status_code == 404


def test_the_body_of_a_request_above_the_rate_is_not_read(client_with: Callable[..., FlaskClient]) -> None:
    class Unread:
        def read(self, size: int) -> bytes:
            raise AssertionError("the body was read")

    client = client_with(api_keys=KEYS, rate_limit="1/hour")
    client.get(JOB, headers=as_key("filler"))
    overrides = {"wsgi.input": Unread(), "wsgi.input_terminated": True}
    response = client.post(
        "/v1/collections/shop/jobs",
        headers=as_key("filler"),
        content_type="application/x-ndjson",
        environ_overrides=overrides,
    )
    assert_problem(response, 429, "rate_limited")


def test_open_doors_know_no_rate(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(api_keys=KEYS, rate_limit="1/hour")
    assert {client.get("/livez", headers=as_key("filler")).status_code for _ in range(5)} == {200}


def test_without_a_rate_or_without_keys_none_is_slowed_down(client_with: Callable[..., FlaskClient]) -> None:
    unlimited, keyless = client_with(api_keys=KEYS, rate_limit=None), client_with(rate_limit="1/hour")
    assert {unlimited.get(JOB, headers=as_key("boss")).status_code for _ in range(5)} == {404}
    assert {keyless.get(JOB).status_code for _ in range(5)} == {404}


def test_an_address_that_guesses_keys_is_not_heard_for_a_while(guarded: FlaskClient) -> None:
    def ask(key: str, address: str) -> TestResponse:
        return guarded.get(JOB, headers=as_key(key), environ_overrides={"REMOTE_ADDR": address})

    codes = [ask(f"guess{n}", "192.0.2.1").status_code for n in range(120)]
    assert codes[:100] == [401] * 100
    assert codes[-1] == 429
    response = ask("boss", "192.0.2.1")
    assert_problem(response, 429, "rate_limited", "unknown keys", "this address")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert ask("boss", "192.0.2.2").status_code == 404
    assert guarded.get("/livez", environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200


def test_without_redis_a_key_is_told_so_and_an_unknown_one_is_unknown(
    client_with: Callable[..., FlaskClient],
) -> None:
    client = client_with(api_keys=KEYS, redis_url="unix:///nowhere/s?db=0")
    assert_problem(client.get(JOB, headers=as_key("boss")), 503, "queue_unavailable")
    assert_problem(client.get(JOB, headers=as_key("guess")), 401, "unauthorized")


def test_a_full_redis_does_not_stop_a_key_from_reading(
    client_with: Callable[..., FlaskClient], full_redis: None
) -> None:
    client = client_with(api_keys=KEYS)
    assert_problem(client.get(JOB, headers=as_key("boss")), 404, "job_not_found")


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


def test_a_made_key_is_heard_from_an_address_where_others_guess(
    client_with: Callable[..., FlaskClient],
) -> None:
    made = f"lk_{'0a' * 4}_{'1b' * 24}"
    hashed = f"lk_{'0a' * 4}:sha256:{hashlib.sha256(made.encode()).hexdigest()}"
    client = client_with(api_keys=f"{hashed}=ingest")
    statuses = {client.get(JOB, headers=as_key(f"guess {n}")).status_code for n in range(150)}
    assert statuses == {401, 429}
    assert client.get(JOB, headers=as_key(made)).status_code == 404

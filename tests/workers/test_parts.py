"""workers/parts.py: what a worker refuses to start with, before it loads anything heavy; its rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.broker import make_celery
from shared.errors import StartError
from shared.settings import Settings
from tests.running import until
from workers.parts import Parts, Rounds, build_parts


def test_thumbnails_need_a_place(settings: Settings) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_THUMBNAILS needs LOOKALIKE_FILES"):
        build_parts(settings.model_copy(update={"thumbnails": True}))


def test_a_place_where_nothing_can_be_kept_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    for place in (str(tmp_path / "file"), "nope://bucket"):
        with pytest.raises(StartError, match="LOOKALIKE_FILES"):
            build_parts(settings.model_copy(update={"files": place}))


@pytest.mark.parametrize(("queue", "members"), [("search", 1), ("ingest", 0)])
def test_a_search_worker_keeps_models_with_the_others_until_it_stops(
    parts: Parts, queue: str, members: int
) -> None:
    rounds = Rounds(make_celery(parts.settings), parts, "worker", [queue])
    rounds.start()
    until(lambda: parts.redis.exists(f"lookalike:worker:{queue}:worker"), "it was never there")
    until(lambda: len(parts.redis.keys("lookalike:crew:*")) == members, "it joined nobody, or others")
    rounds.stop()
    assert parts.redis.keys("lookalike:crew*") == []

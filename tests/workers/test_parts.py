"""workers/parts.py: what a worker refuses to start with, before it loads anything heavy."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import StartError
from shared.settings import Settings
from workers.parts import build_parts


def test_thumbnails_need_a_place(settings: Settings) -> None:
    with pytest.raises(StartError, match="LOOKALIKE_THUMBNAILS needs LOOKALIKE_FILES"):
        build_parts(settings.model_copy(update={"thumbnails": True}))


def test_a_place_where_nothing_can_be_kept_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    for place in (str(tmp_path / "file"), "nope://bucket"):
        with pytest.raises(StartError, match="LOOKALIKE_FILES"):
            build_parts(settings.model_copy(update={"files": place}))

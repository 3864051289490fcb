from __future__ import annotations

import pytest

from cli.study.values import shortened


@pytest.mark.parametrize(
    ("words", "length", "shown"),
    [
        ("boots", 5, "boots"),
        ("https://a.example/1.jpg", 11, "https…1.jpg"),
        ("boots", 4, "b…ts"),
        ("boots", 1, "…"),
        ("boots", 0, "…"),
    ],
)
def test_what_is_too_long_keeps_its_beginning_and_its_end(words, length, shown):
    assert shortened(words, length) == shown

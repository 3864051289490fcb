"""api/fields.py: payload fields as Qdrant spells them."""

from __future__ import annotations

import pytest

from api.fields import field_path
from shared.errors import RequestCode, RequestError


@pytest.mark.parametrize(
    "path",
    ["dx", "lesion_id", "a-b", "a.b", "a[].b", "a[0].b", '"Uniq Id"', 'a."b c"', "größe", "_image.sha256"],
)
def test_a_path_stands_as_it_is(path: str) -> None:
    assert field_path(path) == path


@pytest.mark.parametrize("name", ["Uniq Id", "price ($)", "a b.c", "a..b", ".a", "a]", ""])
def test_a_name_that_is_no_path_is_quoted(name: str) -> None:
    assert field_path(name) == f'"{name}"'
    assert field_path(field_path(name)) == f'"{name}"'


@pytest.mark.parametrize("name", ['"', '"a', 'a"b', '"a"b', '"a" .b', "a\\b", '"a\\b"'])
def test_a_name_that_no_path_can_spell_is_refused_in_words(name: str) -> None:
    with pytest.raises(RequestError, match="is no field") as refused:
        field_path(name)
    assert refused.value.code is RequestCode.INVALID_REQUEST

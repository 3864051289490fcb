"""api/keys.py: how keys are spelt, and what is kept of them."""

from __future__ import annotations

import hashlib
import re

import pytest

from api.keys import Keys
from shared.errors import StartError

SECRET = "5ec7" * 12
MADE = f"lk_0123abcd_{SECRET}"
DIGEST = hashlib.sha256(MADE.encode()).hexdigest()
HASHED = f"lk_0123abcd:sha256:{DIGEST}"


@pytest.mark.parametrize("spelt", [MADE, HASHED])
def test_a_made_key_opens_whether_it_stands_plain_or_hashed(spelt: str) -> None:
    key = Keys(f"{spelt}=search+ingest").find(MADE)
    assert key is not None
    assert (key.name, key.scopes) == ("lk_0123abcd", {"search", "ingest"})


@pytest.mark.parametrize(
    "presented", ["", HASHED, DIGEST, "lk_0123abcd", MADE[:-1], MADE + "0", MADE.upper()]
)
def test_nothing_but_the_whole_key_opens(presented: str) -> None:
    assert Keys(f"{HASHED}=search").find(presented) is None


def test_a_plain_key_has_a_name_that_does_not_tell_it() -> None:
    key = Keys("hush=search, a=b==admin").find("hush")
    assert key is not None
    assert re.fullmatch("key-[0-9a-f]{8}", key.name)
    key = Keys("hush=search, a=b==admin").find("a=b=")
    assert key is not None
    assert key.scopes == {"admin"}


def test_only_hashes_are_kept() -> None:
    keys = Keys(f"hush=search,{MADE}=ingest")
    kept = repr([vars(key) for key in keys._keys])
    assert "hush" not in kept
    assert SECRET not in kept


@pytest.mark.parametrize(
    ("spelt", "place"),
    [
        ("key", 1),
        ("=search", 1),
        ("key=", 1),
        ("key=serach", 1),
        ("a=search,", 2),
        ("a=search,a=ingest", 2),
        ("ü=admin", 1),
        (f"{HASHED[:-1]}=search", 1),
        (f"{HASHED.replace('lk_', 'lk')}=search", 1),
        (f"a=search,{HASHED.replace('sha256', 'sha1')}=search", 2),
        (f"a=search,{HASHED.upper()}=admin", 2),
        (f"{HASHED}=search,{MADE}=admin", 2),
        (f"{HASHED}=search,lk_0123abcd:sha256:{'0' * 64}=admin", 2),
    ],
)
def test_a_misspelt_entry_is_named_by_its_place_and_kept_secret(spelt: str, place: int) -> None:
    with pytest.raises(StartError, match=f"LOOKALIKE_API_KEYS, entry {place}:") as error:
        Keys(spelt)
    for secret in ("hush", "serach", SECRET, DIGEST[:8], "lk_0123"):
        assert secret not in str(error.value)

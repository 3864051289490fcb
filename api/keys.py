"""API keys, of which only hashes are kept. `lookalike keys` (cli/keys.py) makes them."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from shared.errors import StartError

SCOPES = frozenset({"search", "ingest", "admin"})

# As `lookalike keys` makes them: the key, and what stands for it in LOOKALIKE_API_KEYS.
_MADE_KEY = re.compile(r"(lk_[0-9a-f]{8})_[0-9a-f]{48}")
_HASHED = re.compile(r"(lk_[0-9a-f]{8}):sha256:([0-9a-f]{64})")
_MEANT_HASHED = re.compile(r"lk_?[^_]*:.*", re.IGNORECASE)  # then it must be so, and is no plain key


@dataclass(frozen=True)
class Key:
    """A key as it is kept: a name that may be shown, and the SHA-256 of the whole key.

    A plain fast hash, because a key of `lookalike keys` has 192 random bits: there is nothing to guess, so nothing
    to slow down.
    """

    name: str
    digest: bytes
    scopes: frozenset[str]

    @property
    def can_be_guessed(self) -> bool:
        """Whether a person may have thought it up."""
        return not self.name.startswith("lk_")


class Keys:
    """The keys of LOOKALIKE_API_KEYS, `key=scope+scope,key=scope`; of a plain key, only its hash is kept."""

    def __init__(self, spelt: str) -> None:
        self._keys: list[Key] = []
        for place, entry in enumerate(spelt.split(","), start=1):
            key = _read_entry(entry.strip())
            # The sentence names the entry's place, never the key.
            if key is None or any(key.name == other.name for other in self._keys):
                raise StartError(
                    f"LOOKALIKE_API_KEYS, entry {place}: write `key=scope+scope`, each ASCII key once, plain or as "
                    f"`lookalike keys` prints it, the scopes from {', '.join(sorted(SCOPES))}."
                )
            self._keys.append(key)

    def find(self, presented: str) -> Key | None:
        """The key, None where it is none of ours. Every key is compared, each in constant time."""
        digest, found = _digest(presented), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def _read_entry(entry: str) -> Key | None:
    """`key=scope+scope`; None where it is misspelt."""
    spelt, _, words = entry.rpartition("=")
    scopes = frozenset(words.split("+"))
    if not spelt or not spelt.isascii() or not scopes <= SCOPES:
        return None
    if _MEANT_HASHED.fullmatch(spelt):
        hashed = _HASHED.fullmatch(spelt)
        return Key(hashed[1], bytes.fromhex(hashed[2]), scopes) if hashed else None
    made, digest = _MADE_KEY.fullmatch(spelt), _digest(spelt)
    return Key(made[1] if made else f"key-{digest.hex()[:8]}", digest, scopes)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

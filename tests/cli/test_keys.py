from __future__ import annotations

import json
import re

import pytest

from api.keys import Keys


def test_a_made_key_is_let_in_by_its_entry(run):
    result = run("keys", "--scope", "search", "--scope", "ingest", "--json")
    made = json.loads(result.stdout)
    key = Keys(made["entry"]).find(made["key"])
    assert key.scopes == {"search", "ingest"}
    assert made["key"].startswith(f"{key.name}_")


def test_the_entry_holds_the_hash_and_not_the_secret(run):
    made = json.loads(run("keys", "--json").stdout)
    prefix, secret = made["key"].rsplit("_", 1)
    assert re.fullmatch("lk_[0-9a-f]{8}", prefix)
    assert len(secret) * 4 >= 128
    assert secret not in made["entry"]
    assert re.fullmatch(prefix + ":sha256:[0-9a-f]{64}=search", made["entry"])


def test_a_person_sees_the_key_once_and_what_to_do(run):
    result = run("keys", "--scope", "admin")
    key, entry = (line.split()[1] for line in result.stdout.splitlines())
    assert Keys(entry).find(key).scopes == {"admin"}
    assert result.stdout.count(key) == 1
    assert "LOOKALIKE_API_KEYS" in result.stderr


def test_no_two_keys_are_alike(run):
    assert len({run("keys", "--json").stdout for _ in range(20)}) == 20


def test_an_unknown_scope_is_misuse(run):
    result = run("keys", "--scope", "serach")
    assert result.exit_code == 2
    assert "serach" in result.stderr


@pytest.mark.parametrize("scopes", [["search", "search"], ["admin", "search", "admin"]])
def test_a_scope_given_twice_is_one(run, scopes):
    made = json.loads(
        run("keys", "--json", *(word for scope in scopes for word in ("--scope", scope))).stdout
    )
    assert made["entry"].rpartition("=")[2].split("+") == list(dict.fromkeys(scopes))

"""The Lua scripts of `shared/lua`: each is one step of the ledger, which happens whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

_LUA = Path(__file__).with_name("lua")
_PRELUDE = "prelude"
# All but accepting goes on when Redis is full: else what fills it could never end. Redis 7, Valkey.
_BEGINS_WORK = "accept"


class Scripts:
    """`run(name, *args)` runs `shared/lua/<name>.lua`."""

    def __init__(self, client: redis.Redis) -> None:
        prelude = (_LUA / f"{_PRELUDE}.lua").read_text()
        self._scripts = {
            path.stem: client.register_script(_rights(path.stem) + prelude + path.read_text())
            for path in _LUA.glob("*.lua")
            if path.stem != _PRELUDE
        }

    def run(self, name: str, *args: Any, client: redis.Redis | None = None) -> Any:
        """Its answer; on the connection of `client`, where that is given."""
        return self._scripts[name](args=args, client=client)


def _rights(name: str) -> str:
    return "" if name == _BEGINS_WORK else "#!lua flags=allow-oom\n"

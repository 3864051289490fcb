"""JSON as RFC 8259 means it, from bytes. NaN and lone surrogates are not JSON, whatever Python thinks."""

from __future__ import annotations

import json
from typing import Any


def parse_json(data: bytes, *, constants: bool = False) -> Any:
    """The value. ValueError says in a clause what is wrong. `constants`: let NaN and Infinity pass."""
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, parse_constant=None if constants else _no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise ValueError("a \\u escape is half of a surrogate pair") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg[0].lower()}{error.msg[1:]} at character {error.pos + 1}") from error
    except _ConstantError:
        raise
    except ValueError as error:
        raise ValueError("a number has too many digits") from error
    return value


class _ConstantError(ValueError):
    """NaN or Infinity."""


def _no_constant(word: str) -> None:
    raise _ConstantError(f"{word} is not JSON")

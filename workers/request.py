"""A message in hand, as Celery's worker knows it, but for one thing: when its acknowledgement fails, somebody hears."""

from __future__ import annotations

from celery.utils.log import get_logger
from celery.worker import request

logger = get_logger("lookalike.worker")


class Request(request.Request):
    """Celery's own logs a failed acknowledgement and goes on, and the message counts as in hand for ever.

    When as many fail as the worker has slots (Redis is killed while all of them work), it takes nothing more, and
    never sees that its connection is gone: kombu reads from it only while another message may come (5.7.0).
    """

    def acknowledge(self) -> None:
        """Ask the event loop to acknowledge; what fails there ends the connection, and a new one is made."""
        if not self.acknowledged:  # type: ignore[has-type]
            self._on_ack(logger, ())  # no error is left to the log
            self.acknowledged = True

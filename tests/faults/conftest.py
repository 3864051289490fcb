"""The suite of faults in two forms: a few rounds in `make test`, the whole table by `make faults`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.pictures import Pictures
from tests.faults.site import CHUNK, LEASE_SECONDS, Site
from tests.faults.table import Row, as_markdown
from tests.faults.trial import Trial
from tests.image_server import ImageServer
from tests.models import make_vit
from tests.system.conftest import IMAGES_HOST

_ROWS = pytest.StashKey[list[Row]]()
_SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", type=Path, metavar="FILE", help="write the table of faults to FILE")
    parser.addoption("--faults-seed", type=int, metavar="N", help="strike at the moments of an earlier run")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section(f"faults, seed {config.stash[_SEED]}")
    terminalreporter.write(as_markdown(rows))
    path = config.getoption("--faults-table", default=None)
    if path:
        path.write_text(as_markdown(rows))


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    given = pytestconfig.getoption("--faults-seed", default=None)
    return pytestconfig.stash.setdefault(_SEED, random.randrange(10**6) if given is None else given)


@pytest.fixture(scope="session")
def images() -> Iterator[ImageServer]:
    with ImageServer(Pictures(), host=IMAGES_HOST) as server:
        yield server


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every stack of this suite has these: all happens soon, and attempts are the default."""
    return {
        "LOOKALIKE_MODEL": str(make_vit(tmp_path_factory.mktemp("model") / "vit")),
        "LOOKALIKE_FETCH_ALLOW": f"{IMAGES_HOST}/32",
        "LOOKALIKE_CHUNK_SIZE": str(CHUNK),
        "LOOKALIKE_LEASE_SECONDS": str(LEASE_SECONDS),
        "LOOKALIKE_RESEND_SECONDS": "2",
        "LOOKALIKE_RECONCILE_SECONDS": "0.5",
        "LOOKALIKE_FETCH_PER_HOST": "64",
        "LOOKALIKE_ACCEPTING_SECONDS": "3",
        "LOOKALIKE_RATE_LIMIT": "",
        # The last resort, a worker that ends itself, must not hide one that came back too late.
        "LOOKALIKE_IDLE_SECONDS": "3600",
    }


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, seed: int, site: Site
) -> Callable[[str], Trial]:
    """`trial("what dies")` begins a row of the table."""
    print(f"seed {seed}")

    def begin(fault: str) -> Trial:
        row = Row(fault)
        pytestconfig.stash.setdefault(_ROWS, []).append(row)
        return Trial(site, row, random.Random(f"{seed} {request.node.name}"))

    return begin

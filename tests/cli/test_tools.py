from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = ("evaluate", "duplicates", "export", "import")


def lookalike(*arguments: str, without: str) -> subprocess.CompletedProcess[str]:
    """`lookalike …` in a Python that lacks a package."""
    code = f"import sys; sys.modules[{without!r}] = None; from cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("command", "without"),
    [("evaluate", "matplotlib"), ("duplicates", "PIL"), ("export", "pyarrow"), ("import", "numpy")],
)
def test_a_missing_extra_is_said_in_one_line_with_how_to_install_it(command, without):
    ended = lookalike(command, "shoes", without=without)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"Error: `lookalike {command}` needs {without}; run `pip install 'lookalike[tools]'`.\n"
    )


def test_the_help_of_all_needs_no_extra():
    said = lookalike("--help", without="numpy")
    assert said.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in said.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_is_its_own(run, command):
    said = run(command, "--help")
    assert said.exit_code == 0
    assert f"Usage: lookalike {command} [OPTIONS]" in said.stdout

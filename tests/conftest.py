"""What all tests have in common: our modules are compiled before any process of a test imports them."""

import compileall
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def bytecode() -> None:
    """The package's bytecode, of which processes of tests write none themselves.

    They are told not to, as an agent's file that is written twice within a second looks unchanged. Without it
    each of them would compile three hundred files.
    """
    compileall.compile_dir(Path(__file__).parents[1] / "fastagent", quiet=2)

"""Runs one Python target under atheris: ``python -m tests.fuzz.python_target TARGET COMMAND [arguments]``.

A target is ``fuzz_<target>.py`` with one function ``check(data)``: whatever the bytes, it returns. What it
lets through as an exception is a finding. ``COMMAND`` is what runs this again with libFuzzer's arguments
behind it: libFuzzer calls itself when it merges inputs.
"""

import importlib
import sys

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]


def main() -> None:
    """Fuzz until libFuzzer's limits are reached; exits by itself."""
    name = sys.argv[1]
    del sys.argv[:2]
    with atheris.instrument_imports(include=["fastagent", "tests.fuzz"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

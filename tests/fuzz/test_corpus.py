"""The stored corpus of every Python target still passes; scripts/fuzz replays that of the kernels."""

import importlib
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent
CORPUS = FUZZ.parent / "data" / "corpus"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))
CORPUS_BYTES_MAX = 300_000


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_of_a_target_passes(target: str) -> None:
    check = importlib.import_module(f"tests.fuzz.fuzz_{target}").check
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        check(path.read_bytes())


def test_every_target_has_a_corpus_and_all_of_it_is_small() -> None:
    names = {path.stem.removeprefix("fuzz_") for path in [*FUZZ.glob("fuzz_*.c"), *FUZZ.glob("fuzz_*.py")]}
    assert names == {path.name for path in CORPUS.iterdir()}
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) <= CORPUS_BYTES_MAX


def test_every_target_is_in_the_table_of_the_script() -> None:
    script = (FUZZ.parents[1] / "scripts" / "fuzz").read_text()
    kernels = script.split('kernels="\n')[1].split('"')[0]
    assert sorted(line.split("|")[0].strip() for line in kernels.splitlines()) == sorted(
        path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.c")
    )
    decoders = script.split('decoders="')[1].split('"')[0]
    assert sorted(decoders.split()) == TARGETS

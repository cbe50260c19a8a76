"""``fastagent bench``: measure this checkout, and write one page of results."""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

import fastagent
from fastagent.errors import ConfigurationError

__all__ = ["add_parser", "checkout"]

PAGE = Path("benches") / "page" / "__main__.py"
STOP_LIMIT_S = 20.0
"""What a running bench gets to end its servers after an interrupt."""

EPILOG = """\
examples:
  fastagent bench                       everything, about 20 minutes on two idle cores
  fastagent bench --quick               the same in about 3 minutes, to see that it runs
  fastagent bench peers                 Pipecat, the Agents SDK and FastAPI beside FastAgent
  fastagent bench kernels relay         parts: kernels, relay, capacity, peers
  fastagent bench --from FOLDER/results.json     draw stored figures again, measure nothing

The benches are no part of the installed package: run this in a checkout, after scripts/run has built it. The
page is benches/results/DATE-MACHINE-COMMIT/results.md. --out FOLDER puts it elsewhere; --strict exits 1 on a
miss.
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "bench",
        help="measure this checkout beside its peers, into one page",
        description="Measure kernels, the bridge beside a byte relay, the calls that one core carries, "
        "and other servers under the same calls; write every goal beside its figure.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help="all, kernels, relay, capacity, peers (all)")
    parser.add_argument("--quick", action="store_true", help="short windows and few levels")
    parser.add_argument("--out", metavar="FOLDER", help="of the page (below benches/results)")
    parser.add_argument("--from", dest="stored", metavar="FILE", help="measure nothing, draw these figures")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a measured goal was missed")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Run the checkout's benches in a process of their own."""
    process = await asyncio.create_subprocess_exec(*_command(options), cwd=checkout())
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_LIMIT_S)


def _command(options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "benches.page", *options.what]
    command += ["--quick"] if options.quick else []
    command += ["--strict"] if options.strict else []
    # The benches run in the checkout; paths are meant from here.
    command += ["--out", str(Path(options.out).resolve())] if options.out else []
    command += ["--from", str(Path(options.stored).resolve())] if options.stored else []
    return command


def checkout() -> Path:
    """The checkout that holds the benches: the one this package runs from, or the working directory.

    Raises:
        ConfigurationError: neither holds them.
    """
    for root in (Path(fastagent.__file__).resolve().parents[1], Path.cwd()):
        if (root / PAGE).is_file():
            return root
    raise ConfigurationError(
        "no checkout here: the benches are not part of the installed package; clone the repository, build it "
        "there (scripts/run) and run this again"
    )

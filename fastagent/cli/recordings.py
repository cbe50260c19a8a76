"""``fastagent recordings``: list, repair, export and delete recordings."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fastagent.errors import ConfigurationError, FastAgentError
from fastagent.recording.export import FORMATS, export
from fastagent.recording.repair import Outcome, expire, recordings, repair

__all__ = ["add_parser"]

SECONDS_PER_DAY = 86_400

EPILOG = """\
examples:
  fastagent recordings list /var/lib/fastagent/recordings
  fastagent recordings repair /var/lib/fastagent/recordings          publish what a crash left behind
  fastagent recordings export /var/lib/fastagent/recordings --format flac
  fastagent recordings expire /var/lib/fastagent/recordings --days 90
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "recordings",
        help="list, repair, export and delete recordings",
        description="Care for recordings of calls (stereo WAV: left the caller, right the bot).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="what is there: seconds, bytes, encoding, pauses")
    listing.set_defaults(act=_list)

    repairing = actions.add_parser("repair", help="publish .wav.part files whose process died")
    repairing.add_argument(
        "--finished", action="store_true", help="also correct wrong sizes in the headers of .wav files"
    )
    repairing.set_defaults(act=_repair)

    exporting = actions.add_parser("export", help="encode finished recordings as FLAC or Opus")
    exporting.add_argument("--format", choices=sorted(FORMATS), default="flac")
    exporting.add_argument("--into", metavar="DIR", help="another directory for the results")
    exporting.set_defaults(act=_export)

    expiring = actions.add_parser("expire", help="delete finished recordings and exports by age")
    expiring.add_argument("--days", type=_days, required=True, help="age at which they go")
    expiring.set_defaults(act=_expire)

    for action in (listing, repairing, exporting, expiring):
        action.add_argument("directory", metavar="DIR", type=Path)
    exporting.add_argument(
        "names", nargs="*", metavar="NAME", help="files of it; without any, all not yet exported"
    )
    parser.set_defaults(run=run)


def _days(text: str) -> float:
    days = float(text)
    if not days > 0:
        raise ValueError
    return days


async def run(options: argparse.Namespace) -> int:
    """Do it in a thread: all of it waits for the disk."""
    if not options.directory.is_dir():
        raise ConfigurationError(f"no such directory: {options.directory}")
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        return await asyncio.to_thread(act, options)
    except OSError as error:
        raise FastAgentError(f"{error.filename or options.directory}: {error.strerror}") from error


def _list(options: argparse.Namespace) -> int:
    for found in recordings(options.directory):
        seconds = "?" if found.duration_s is None else f"{found.duration_s:.1f}"
        pauses = "".join(f"  {m.label} {m.start / 8000:.1f}-{m.end / 8000:.1f} s" for m in found.marks)
        unfinished = "  unfinished" if found.is_part else ""
        encoding = found.encoding or "unreadable"
        print(f"{found.path.name}  {seconds} s  {found.size_bytes} bytes  {encoding}{unfinished}{pauses}")
    return 0


def _repair(options: argparse.Namespace) -> int:
    results = repair(options.directory, check_finished=options.finished)
    for result in results:
        print(f"{result.path.name}  {result.outcome.value}")
    return int(any(result.outcome in (Outcome.UNREADABLE, Outcome.FAILED) for result in results))


def _export(options: argparse.Namespace) -> int:
    into: Path = Path(options.into) if options.into else options.directory
    if options.names:
        chosen = [options.directory / name for name in options.names]
    else:
        finished = [found.path for found in recordings(options.directory) if not found.is_part]
        chosen = [path for path in finished if not (into / f"{path.stem}.{options.format}").exists()]
    failed = 0
    for path in chosen:
        try:
            print(export(path, options.format, into=into).name, flush=True)
        except ConfigurationError:
            raise
        except (FastAgentError, OSError) as error:
            failed += 1
            print(f"fastagent recordings: {path.name}: {error}", file=sys.stderr)
    return int(failed > 0)


def _expire(options: argparse.Namespace) -> int:
    for path in expire(options.directory, time.time() - options.days * SECONDS_PER_DAY):
        print(path.name)
    return 0

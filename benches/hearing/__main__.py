"""All tables of what the ears do, one after the other: ``python -m benches.hearing [TABLE...]``.

Each table is a module of its own with options of its own, such as folders of recorded speech and music.
"""

import subprocess
import sys

TABLES = {
    "vad": ("vad_report", "--streams", "1"),
    "bargein": ("bargein_report", "--quick"),
    "dtmf": ("dtmf_report", "--rounds", "2", "--minutes", "2"),
    "jitter": ("jitter_report",),
    "conceal": ("conceal_report",),
}


def main() -> int:
    """Print the tables asked for; all of them by default."""
    wanted = sys.argv[1:] or list(TABLES)
    unknown = [name for name in wanted if name not in TABLES]
    if unknown:
        print(f"no table {', '.join(unknown)}; there are {', '.join(TABLES)}", file=sys.stderr)
        return 2
    status = 0
    for name in wanted:
        module, *options = TABLES[name]
        print(f"== {name}", flush=True)
        status |= subprocess.run(
            [sys.executable, "-m", f"benches.hearing.{module}", *options], check=False
        ).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())

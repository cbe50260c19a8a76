"""What ``fastagent serve --check`` prints."""

import json

from fastagent.settings.review import Level, Review

__all__ = ["print_review"]

VERDICTS = {0: "fine", 1: "unsafe", 2: "wrong: the server would not start"}


def print_review(found: Review, *, as_json: bool) -> int:
    """Print all settings with their sources, then the findings; gives the exit code."""
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
        return found.exit_code
    name_width = max(len(row.name) for row in found.rows)
    value_width = max(len(row.value) for row in found.rows)
    for row in found.rows:
        print(f"{row.name:{name_width}}  {row.value:{min(value_width, 40)}}  {row.source}")
    print()
    for level in Level:
        for finding in found.findings:
            if finding.level is level:
                print(f"{level}: {finding.text}")
    print(VERDICTS[found.exit_code])
    return found.exit_code

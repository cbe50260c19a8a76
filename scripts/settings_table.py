"""Write the table of settings in docs/configuration.md anew, from the fields and docstrings of `Settings`."""

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

from fastagent.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
BEGIN = "<!-- settings: written by scripts/settings_table.py -->"
END = "<!-- end of settings -->"


def meanings() -> dict[str, str]:
    """The docstring under each field, on one line."""
    (definition,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node, following in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[node.target.id] = " ".join(str(following.value.value).split()).replace("``", "`")
    return found


def default(value: Any) -> str:
    """A default as one would write it into a variable."""
    if isinstance(value, bool):
        return f"`{int(value)}`"
    if isinstance(value, float):
        return f"`{value:.12g}`"
    return f"`{value}`" if value not in ("", ()) else "none"


def table() -> str:
    """All settings, in the order of their fields."""
    texts = meanings()
    lines = ["| variable | key in the file | default | meaning |", "|---|---|---|---|"]
    for entry in dataclasses.fields(Settings):
        variable = entry.metadata["variable"]
        meaning = texts[entry.name].replace("|", "\\|")
        lines.append(f"| `{variable}` | `{entry.name}` | {default(entry.default)} | {meaning} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the table as the code has it."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

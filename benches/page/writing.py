"""The folder of a page: Markdown, pictures and every figure."""

import importlib.util
from pathlib import Path

from benches.baseline import FRAME, Figures, Subject
from benches.page.findings import Findings
from benches.page.markdown import page_of
from benches.page.pictures import pictures_of

__all__ = ["PAGE", "write_page"]

PAGE = "results.md"
FIGURES = "results.json"


def write_page(findings: Findings, folder: Path) -> Path:
    """Write ``results.md``, ``results.json`` and pictures into a folder, which is made; gives the page."""
    folder.mkdir(parents=True, exist_ok=True)
    findings.save(folder / FIGURES)
    drawn = pictures_of(findings)
    for name, picture in drawn.items():
        (folder / name).write_text(picture)
    names = set(drawn)
    has_frames = any(kernel.unit == FRAME for kernel in findings.kernels)
    if has_frames and importlib.util.find_spec("matplotlib") is not None:
        names |= _draw_kernels(findings, folder)
    page = folder / PAGE
    page.write_text(page_of(findings, names))
    return page


def _draw_kernels(findings: Findings, folder: Path) -> set[str]:
    """The kernels' picture, as PNG and SVG; gives the names of the files."""
    from benches.picture import draw  # wants matplotlib

    subjects = {
        kernel.subject: Subject(
            kernel.unit,
            kernel.goal_ns,
            {name: Figures(kernel.min_ns[name], median_ns) for name, median_ns in kernel.median_ns.items()},
        )
        for kernel in findings.kernels
    }
    return {path.name for path in draw(subjects, folder / "kernels")}

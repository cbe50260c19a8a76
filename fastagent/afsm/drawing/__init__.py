"""A graph as a picture: Mermaid text, or an SVG that needs no other program.

`layout` places the states in layers, `svg` draws them, `mermaid` writes for a viewer that places them itself.
"""

from fastagent.afsm.drawing.mermaid import to_mermaid
from fastagent.afsm.drawing.svg import to_svg

__all__ = ["to_mermaid", "to_svg"]

"""Four shapes are all the plot needs. Lengths are SVG user units, one CSS pixel at natural size."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

INK = "#1f2328"
MUTED = "#57606a"
RULE = "#d0d7de"
FONT = "'Inter', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def rect(x: float, y: float, width: float, height: float, fill: str, *, tip: str = "") -> str:
    """Draw a filled box; `tip` is read by screen readers and shown on hover."""
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}">{inner}</rect>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str = RULE) -> str:
    """Draw a hairline."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{stroke}"/>'


def text(
    x: float, y: float, content: str, *, size: int = 13, anchor: str = "start", bold: bool = False, fill: str = INK
) -> str:
    """Write one line of text; `y` is its baseline, `anchor` is start, middle or end."""
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}"{weight}>{escape(content)}</text>'


def document(width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    """Wrap the parts in a picture with a white ground, a title and a description for screen readers."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="title desc" font-family="{FONT}">\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(description)}</desc>\n'
        f"{rect(0, 0, width, height, '#ffffff')}\n{body}\n</svg>\n"
    )

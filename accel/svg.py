"""SVG of a figure: the same bytes every time, hover texts as titles, and inside a page the colours of its theme."""

from __future__ import annotations

import io
import re
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_HOVER = "hover: "  # how an id starts that is a hover text on its way through matplotlib's writer
_DROPPED = {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}

# Black and white become those of the page, so that one drawing serves light and dark themes.
_THEME = {"#000000": "currentColor", "#ffffff": "var(--paper)"}

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def add_hover(artist: Artist, text: str) -> None:
    """What a browser shows while the pointer rests on ``artist``."""
    artist.set_gid(_HOVER + text)


def svg_file(figure: Figure) -> bytes:
    """A whole SVG file; letters are outlines, as no reader's fonts can be relied on."""
    root = _drawn(figure, {"svg.fonttype": "path", "svg.hashsalt": "accel"})
    content: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return content + b"\n"


def svg_element(figure: Figure, name: str, label: str) -> str:
    """An ``<svg>`` for an HTML page: letters are text, ``name`` keeps ids of several figures apart, and ``label`` is
    what screen readers say."""
    root = _drawn(figure, {"svg.fonttype": "none", "svg.hashsalt": name}, transparent=True)
    _drop_unused_ids(root)
    _adopt_theme(root)
    width = root.attrib.pop("width").removesuffix("pt")
    root.attrib.pop("height")
    root.attrib |= {"role": "img", "aria-label": label, "style": f"--width: {float(width):.0f}pt"}
    return ElementTree.tostring(root, "unicode")


def _drawn(figure: Figure, settings: dict[str, Any], *, transparent: bool = False) -> ElementTree.Element:
    buffer = io.BytesIO()
    with rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=transparent)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        if element.get("id", "").startswith(_HOVER):
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = element.attrib.pop("id").removeprefix(_HOVER)
            element.insert(0, title)
    return root


def _drop_unused_ids(root: ElementTree.Element) -> None:
    """Only ids that something refers to stay: ``axes_1`` of two figures in one page would clash."""
    values = " ".join(value for element in root.iter() for value in element.attrib.values())
    used = set(re.findall(r"#(\w+)", values))
    for element in root.iter():
        if element.get("id", "") not in used:
            element.attrib.pop("id", None)


def _adopt_theme(root: ElementTree.Element) -> None:
    for parent in root.iter():
        for child in [child for child in parent if child.tag in _DROPPED]:
            parent.remove(child)  # its rule for every element of a page is in the page's own style
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, re.sub("#000000|#ffffff", lambda found: _THEME[found.group()], value))

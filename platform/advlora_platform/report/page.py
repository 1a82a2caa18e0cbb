"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from advlora_platform.report.document import Document


def to_html(document: Document, light: Mapping[str, bytes], dark: Mapping[str, bytes]) -> str:
    """Renders a document.

    Args:
        document: The report.
        light: Name -> PNG for a light page.
        dark: The same figures for a dark one.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("page.html")
    return template.render(document=document, light=_encoded(light), dark=_encoded(dark)) + "\n"


def _encoded(figures: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in figures.items()}

"""Reading JSON documents of a server that may say anything."""

from __future__ import annotations

import math
from typing import Any

from .widgets import MAX_CHARACTERS, clean


def rows_of(document: Any, name: str) -> list[dict[str, Any]]:
    """The objects in the list ``name`` of ``document``; none if there is no such list."""
    found = document.get(name) if isinstance(document, dict) else None
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def number_of(document: Any, name: str) -> float | None:
    """The number ``name`` of ``document``; None if there is none."""
    value = document.get(name) if isinstance(document, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return None if math.isnan(number) else number


def text_of(document: Any, name: str, limit: int = MAX_CHARACTERS) -> str:
    """The text ``name`` of ``document``, fit to be shown; empty if there is none."""
    value = document.get(name) if isinstance(document, dict) else None
    return "" if value is None or isinstance(value, dict | list) else clean(value, limit)

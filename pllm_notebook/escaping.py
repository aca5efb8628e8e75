"""Text from outside, made fit for where it is shown: a terminal obeys control characters, a page obeys markup."""

from __future__ import annotations

import html
import re

__all__ = ["escape_html", "strip_control_chars"]

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, the cursor, the screen
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # the title, links, the clipboard
    r"|\x1b[ -/]*[0-~]?"
)
# Every other control character, and those that turn the direction of what follows; lines and tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def strip_control_chars(text: str) -> str:
    """Return *text* without escape sequences, and without control characters other than tab and line feed."""
    if _CONTROL.search(text) is None:
        return text
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def escape_html(text: str) -> str:
    """Escape text, and keep a page from setting text between two dollar signs as mathematics."""
    return html.escape(strip_control_chars(text)).replace("$", "<span>$</span>")

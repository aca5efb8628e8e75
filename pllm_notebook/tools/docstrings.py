"""Parse docstrings in Google, NumPy and Sphinx style: the summary and the description of each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

__all__ = ["parse_docstring"]

_GOOGLE = re.compile(r"(?:Args|Arguments|Parameters|Params):\s*")
_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)")
_RULE = re.compile(r"-{3,}\s*")
_NUMPY_ENTRY = re.compile(r"(?P<names>\*{0,2}\w+(?:\s*,\s*\w+)*)\s*(?::.*)?")
_SPHINX = re.compile(r":param(?:\s+[^:]*?)?\s+\*{0,2}(?P<name>\w+)\s*:\s*(?P<text>.*)")
_FIELD = re.compile(r":\w+[^:]*:")
# Headings of sections. All text before the first section describes the tool.
_SECTION = re.compile(
    r"(?:Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?|Attributes|See Also|References|"
    r"Warns|Warnings?|Other Parameters|Keyword Args|Keyword Arguments):?\s*"
)


def parse_docstring(doc: str | None) -> tuple[str, dict[str, str]]:
    """Split a docstring.

    Args:
        doc: The docstring, or None.

    Returns:
        The text before the first section ("" for none), and the descriptions of the parameters by name.
    """
    lines = inspect.cleandoc(doc or "").splitlines()
    ends = next((at for at in range(len(lines)) if _begins_section(lines, at)), len(lines))
    said: dict[str, str] = {}
    for at, line in enumerate(lines):
        if _GOOGLE.fullmatch(line):
            said |= _google(lines[at + 1 :])
        elif line.strip() in ("Parameters", "Other Parameters") and _underlined(lines, at):
            said |= _numpy(lines[at + 2 :])
        elif (match := _SPHINX.fullmatch(line)) is not None:
            said[match["name"]] = _joined([match["text"], *_deeper(lines[at + 1 :], 0)])
    return "\n".join(lines[:ends]).strip(), said


def _begins_section(lines: list[str], at: int) -> bool:
    line = lines[at]
    if _FIELD.match(line):
        return True
    return _SECTION.fullmatch(line) is not None and (line.rstrip().endswith(":") or _underlined(lines, at))


def _underlined(lines: list[str], at: int) -> bool:
    return at + 1 < len(lines) and _RULE.fullmatch(lines[at + 1]) is not None


def _google(lines: list[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    first = next((line for line in lines if line.strip()), "")
    indent = _indent(first)
    for at, line in enumerate(lines):
        if line.strip() and _indent(line) < max(indent, 1):
            break
        match = _ENTRY.fullmatch(line.strip())
        if match is not None and _indent(line) == indent:
            said[match["name"]] = _joined([match["text"], *_deeper(lines[at + 1 :], indent)])
    return said


def _numpy(lines: list[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for at, line in enumerate(lines):
        if _underlined(lines, at):
            break
        match = _NUMPY_ENTRY.fullmatch(line)
        if match is not None and line.strip() and not line[0].isspace():
            text = _joined(_deeper(lines[at + 1 :], 0))
            said |= {name.strip().lstrip("*"): text for name in match["names"].split(",")}
    return said


def _deeper(lines: list[str], indent: int) -> Iterable[str]:
    """Return the lines that continue the item at *indent*."""
    for line in lines:
        if line.strip() and _indent(line) <= indent:
            return
        yield line.strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: Iterable[str]) -> str:
    return " ".join(line for line in lines if line).strip()

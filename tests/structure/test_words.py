"""The field's words: metaphors and private language stay out of names, docstrings, messages and docs."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

from tests.structure.parsed import PACKAGE, ROOT, files

# Words of names that mean something else in the field, and what to say instead.
NAMES = {
    "aboard": "in flight",
    "anew": "again",
    "ballot": "judge prompt",
    "conductor": "execution",
    "courier": "sender",
    "course": "execution",
    "desk": "batch API",
    "dress": "to wire",
    "errand": "command",
    "errands": "commands",
    "feed": "run queue",
    "flight": "request in flight",
    "frontier": "barrier",
    "gatherer": "batch strategy",
    "heal": "adapt",
    "heals": "adaptations",
    "heard": "on result",
    "landed": "done",
    "landing": "call result",
    "lane": "dispatcher",
    "ledger": "results",
    "office": "batch service",
    "passenger": "waiter",
    "poke": "wake",
    "purse": "run budget",
    "reception": "results",
    "rung": "schema level",
    "tender": "call queue",
    "told": "reported",
    "workshop": "tool runner",
}
# Phrases of texts that a reader has to guess, and what to say instead.
TEXTS = {
    "a fault of ours": "internal error",
    "a fault of this package": "internal error",
    "aboard": "in flight",
    "anew": "again",
    "asked of": "sent to",
    "at hand": "available",
    "by itself": "alone",
    "for want of": "without",
    "found out": "inferred",
    "gone on with": "resumed",
    "is none": "does not exist",
    "no one": "nothing, or the part that does it",
    "nobody": "nothing, or the part that does it",
    "put by": "reserved",
    "put off": "not sent",
    "put to": "sent to",
    "stand": "is",
    "stands": "is",
    "told": "reported",
    "whoever": "anyone who",
}
# Lines that stay: what they say is stored, or sent to a model, and is part of a cache key.
EXCEPTIONS = {
    "ensemble/judge_prompt.py": "DECISION_MAKER_PROMPT = ",
    "store/failure_file.py": "CREATE TABLE failures",
    "store/failure_rows.py": "COLUMNS = ",
    "prompts.py": "_PACKED_TEMPLATE = ",
}
_TEXT = re.compile(rf"\b(?:{'|'.join(map(re.escape, TEXTS))})\b(?<!is None)", re.IGNORECASE)


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)]


def found_in(path: Path) -> list[str]:
    """Return the words of one file that are not the field's."""
    found = []
    exception = EXCEPTIONS.get(path.relative_to(PACKAGE).as_posix())
    text = path.read_text(encoding="utf-8")
    if not NAMES.keys() & set(words_of(text)) and not _TEXT.search(text):
        return []  # to read its tokens takes longer
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if exception is not None and exception in token.line:
            continue
        if token.type == tokenize.NAME and "flight" not in token.string.lower():
            found += [
                f"{path.name}:{token.start[0]} {token.string}" for word in words_of(token.string) if word in NAMES
            ]
        elif token.type in (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            found += [f"{path.name}:{token.start[0]} {match}" for match in _TEXT.findall(token.string)]
    return found


# First words of docstrings that name no action.
NO_ACTION = {"A", "An", "At", "Be", "Between", "Called", "Give", "Gives", "Has", "Have", "Hear", "Hears", "How", "If",
             "In", "Never", "Of", "On", "Say", "Says", "Tell", "Tells", "The", "This", "What", "When", "Where",
             "Whether", "Which", "With", "Without"}  # fmt: skip


def test_names_and_texts_of_the_package_are_in_the_fields_words() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(path.relative_to(PACKAGE).parts[0], []).extend(found_in(path))

    assert {room: words for room, words in found.items() if words} == {}


def test_docs_are_in_the_fields_words() -> None:
    found = {
        page.relative_to(ROOT).as_posix(): Counter(map(str.lower, matches))
        for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
        if (matches := _TEXT.findall(page.read_text(encoding="utf-8")))
    }

    assert found == {}


def test_docstrings_begin_with_a_verb_of_the_action() -> None:
    """Return, Build, Commit: not Give, Tell, Hear or Have, which say nothing of what is done; and not Whether or Where.

    A property's says what it is.
    """
    weak = []
    for path, tree in files().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = (ast.get_docstring(node) or "").partition(" ")[0]
                if first in NO_ACTION and "property" not in " ".join(map(ast.unparse, node.decorator_list)):
                    weak.append(f"{path}:{node.lineno} {node.name}")

    assert weak == []

"""One `%%pllm` cell: parse the line, submit the run, return the result."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import json
import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pllm_notebook.exceptions import RunInterrupted, UsageError, guess, sentence, with_article
from pllm_notebook.execution import LiveRun, live_of
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.frames.item_lists import submit_list, submit_one
from pllm_notebook.frames.libraries import find_accessor
from pllm_notebook.notebook.arguments import help_text, read
from pllm_notebook.options import STORED_LABELS

__all__ = ["Text", "run_cell", "sanitize"]

_MAGIC = re.compile(r"^%%pllm(?![\w?])", re.MULTILINE)
# IPython's own variables that are not functions.
_IPYTHON = ("In", "Out", "exit", "quit")
# Maximum characters of the message of an error in an expression.
_REASON = 300


class Text(str):
    """A model's text answer: a string that a notebook renders as sanitized Markdown."""

    source = ""

    def _repr_markdown_(self) -> str:
        shown = sanitize(self)
        return f"**SIMULATED** by {sanitize(self.source)}\n\n{shown}" if self.source else shown


async def run_cell(line: str, body: str | None, names: dict[str, Any], *, blocking: bool) -> Any:
    """Run one cell.

    Args:
        line: The text after `%%pllm`.
        body: The prompt. None or blank if there is no prompt.
        names: The notebook's variables. The result is stored there under the name given by `--out`.
        blocking: Whether to block like `run.result()`. A terminal needs this to notice Ctrl-C; a kernel must not
            block, because its event loop has to stay free.

    Returns:
        The frame, list, value or text that the cell displays; None after `--out` with data, or `--help`.

    Raises:
        UsageError: If the cell is invalid. Nothing was sent.
        RunInterrupted: After an interrupt or Stop. Finished answers are kept.
    """
    given = read(line)
    if given.pop("help", False):
        print(help_text())
        return None
    out = None if (name := given.pop("out", None)) is None else _variable(name, names)
    data, kind = given.pop("data", None), given.pop("schema", None)
    options = given | {name: _mapping(name, given[name]) for name in ("extra_body", "prices") if name in given}
    kind = None if kind is None else _evaluate(kind, names, "--schema")
    if options.get("examples", STORED_LABELS) != STORED_LABELS:
        options["examples"] = _evaluate(options["examples"], names, "--examples")
    if "tools" in options:
        options["tools"] = [_evaluate(tool, names, "--tools") for tool in options["tools"]]
    elif options.get("run_tools"):
        raise UsageError("--run-tools runs the functions that --tools names, and none are given. Nothing was sent.")
    # With neither --run-tools nor a type, the result is the tool calls (`df.llm.call_tools`); otherwise, an answer.
    calls = bool(options.get("tools")) and kind is None and not options.get("run_tools", False)
    prompt = (body or "").strip("\n")
    if _MAGIC.search(prompt):
        raise UsageError("A line of the prompt begins with %%pllm, which is the first line of a cell: give it one of "
                         "its own. Nothing was sent.")  # fmt: skip
    if data is None:
        run = _one(prompt, kind, names, options, calls=calls)
        (value,) = await _ended(run, blocking=blocking)
        if out is not None:
            names[out] = value
        return _text(run, value) if isinstance(value, str) and kind is None else value
    run = _many(_evaluate(data, names, "%%pllm"), data, prompt, kind, options, calls=calls)
    value = await _ended(run, blocking=blocking)
    if out is None:
        return value
    names[out] = value
    return None


def _one(prompt: str, kind: Any, names: Mapping[str, Any], options: dict[str, Any], *, calls: bool) -> LiveRun:
    if not prompt.strip():
        raise UsageError(
            "The cell has no prompt and names no data. Write the prompt below the line, or name a dataframe: "
            "%%pllm df --schema Review. Nothing was sent."
        )
    # A single prompt has no other rows, so its failure is raised.
    return submit_one(prompt, names, kind, calls=calls, **({"errors": "raise"} | options))


def _many(data: Any, written: str, prompt: str, kind: Any, options: dict[str, Any], *, calls: bool) -> LiveRun:
    asked = prompt if prompt.strip() else None
    if asked is None and kind is None and not calls:
        raise UsageError(
            "The cell has neither a prompt nor --schema, so nothing can be asked. Write the prompt below the line. "
            "Nothing was sent."
        )
    accessor = find_accessor(data)
    if accessor is not None:
        if calls:
            return live_of(accessor.submit_calls(options.pop("tools"), asked, **options))
        if kind is None:
            return live_of(accessor.submit_text(asked, **options))
        return live_of(accessor.submit(kind, asked, **options))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return submit_list(data, kind, asked, calls=calls, **options)
    listed = isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping, type))
    raise UsageError(
        f"{written} is {with_article(type(data).__name__)}; %%pllm takes a dataframe, a series or a list."
        f"{f' list({written}) makes a list of it.' if listed else ''} Nothing was sent."
    )


async def _ended(run: LiveRun, *, blocking: bool) -> Any:
    if not blocking:
        try:
            await run.until_given()
        except asyncio.CancelledError:
            # Not re-raised: a cancelled cell shows a long traceback. Not swallowed: the queued cells would run
            # with half a result.
            p = run.progress()
            raise RunInterrupted("Stopped.", kept=p.done + p.cached, total=p.total, run=run.id) from None
    return run.result()


def _text(run: LiveRun, value: str) -> Text:
    text = Text(value)
    p = run.progress()
    text.source = p.model if p.simulated else ""
    return text


def _variable(name: str, names: Mapping[str, Any]) -> str:
    """Return the name of `--out` as Python normalizes it.

    Raises:
        UsageError: If it is not a usable variable name, or would replace one that the notebook needs. Nothing was sent.
    """
    if not name.isidentifier():
        raise UsageError(f"--out is the name of a variable, not {name!r}. Nothing was sent.")
    if keyword.iskeyword(name):
        raise UsageError(
            f"--out is the name of a variable, and {name!r} is a keyword of Python, by which nothing can be read. "
            f"Choose another name. Nothing was sent."
        )
    name = unicodedata.normalize("NFKC", name)  # Python normalizes identifiers in the same way
    held = names.get(name, getattr(builtins, name, None))
    kinds = {"module": inspect.ismodule(held), "class": inspect.isclass(held), "function": inspect.isroutine(held)}
    kind = next((kind for kind, is_one in kinds.items() if is_one), "name of IPython's" if name in _IPYTHON else "")
    if kind:
        raise UsageError(
            f"--out {name} would replace the {kind} {name!r} in this notebook. Choose another name. Nothing was sent."
        )
    return name


def _evaluate(expression: str, names: Mapping[str, Any], where: str) -> Any:
    """Evaluate an expression in the notebook's namespace, as a cell would."""
    if not expression.strip():
        raise UsageError(f"{where}: an expression of the notebook is expected, and there is none. Nothing was sent.")
    try:
        return eval(expression, dict(names))
    except Exception as error:
        missing = error.name if isinstance(error, NameError) else None
        # A function of the notebook can raise NameError too, for a name that is not in this expression.
        if missing is not None and re.search(rf"(?<![\w.]){re.escape(missing)}(?!\w)", expression):
            meant = guess(missing, _own(names))
            raise UsageError(
                f"{where}: there is no variable {missing!r} in this notebook.{meant} Nothing was sent."
            ) from None
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"{where}: {expression!r} cannot be evaluated: {sentence(said[:_REASON])} Nothing was sent."
        ) from error


def _own(names: Iterable[str]) -> list[str]:
    """Return the user's variables, without IPython's own."""
    return [name for name in names if not name.startswith("_") and name not in _IPYTHON]


def _mapping(name: str, text: str) -> Any:
    for read_one in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return read_one(text)
    shown = "{'seed': 1}" if name == "extra_body" else "{'mine:large': (0.50, 2.00)}"
    raise UsageError(f"--{name.replace('_', '-')} is a mapping such as {shown}, not {text!r}. Nothing was sent.")


# The start of a tag, a comment or a processing instruction. A "<" before a space is an ordinary character in text, code
# and formulas. Escaping it as an entity would show the entity in code, and renderers disagree about what is code.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# An entity could disguise the scheme of a link. A space is inserted here too: some renderers decode twice, so "&amp;"
# would become the same entity again.
_ENTITY = re.compile(r"&(?=#?\w{1,31};)")
# A link that runs a script when clicked. Markdown drops a backslash before ":".
_SCHEME = re.compile(r"((?:java|vb)script)(?=\\*:)", re.IGNORECASE)
# An image is loaded without a click, and its URL can leak the prompt.
_PICTURE = re.compile(r"!(?=\[)")
# Commands for links, styles and images in formulas.
_FORMULA = re.compile(r"\\(?=(?:href|class|cssId|style|mmlToken|csname|require|unicode|includegraphics)\b)")


def sanitize(text: str) -> str:
    """Return Markdown without HTML, loaded content or script links.

    An image becomes a link to it. A space is inserted after "<" before a letter and after "&" before an entity.
    """
    text = _TAG.sub("< ", _ENTITY.sub("& ", strip_control_chars(text)))
    text = _SCHEME.sub(r"\1 ", text)
    return _FORMULA.sub(r"\\ ", _PICTURE.sub("! ", text))

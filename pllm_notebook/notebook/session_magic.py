"""`%%pllm_session`: a cell that is a program which asks, run again until it has come to its end."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
from types import CodeType
from typing import Any

from IPython.core.magic import no_var_expand
from IPython.core.magic_arguments import MagicArgumentParser

from pllm_notebook.exceptions import UsageError
from pllm_notebook.notebook.arguments import add_options, parsed, refuse_unknown
from pllm_notebook.options import fields_of
from pllm_notebook.shell import cell_number

__all__ = ["NAME", "load_into", "unload_from"]

NAME = "pllm_session"
_FIRST_LINE = re.compile(rf"%%{NAME}(?![\w?])(.*)", flags=re.DOTALL)
_AGENT = "main"


def load_into(shell: Any) -> None:
    """Add the magic, and the transformer for cells that await; a second load changes nothing."""

    @no_var_expand
    def cell_magic(line: str, cell: str) -> Any:
        __tracebackhide__ = True  # a fault in the cell is shown with the cell's own lines
        return run_program(shell, line, cell)

    # Its options are read where they are used: sessions are not loaded before.
    cell_magic.__doc__ = f"Run the cell as a program that asks (%%{NAME} --help)."
    shell.register_magic_function(cell_magic, "cell", NAME)
    unload_from(shell, magic=False)
    shell.input_transformers_cleanup.append(_Awaiting(shell))


def unload_from(shell: Any, *, magic: bool = True) -> None:
    """Remove what `load_into` added; variables that a program bound stay."""
    if magic:
        shell.magics_manager.magics["cell"].pop(NAME, None)
    found = shell.input_transformers_cleanup
    found[:] = [each for each in found if not isinstance(each, _Awaiting)]


def run_program(shell: Any, line: str, body: str) -> Any:
    """Run a cell's body as the block of a session, in the notebook's own namespace.

    `session` and `agent` are bound there, and stay. At a pending value the cell ends with the session's summary; run it
    again to resume.

    Args:
        shell: IPython's.
        line: The text after `%%pllm_session`.
        body: The program.

    Returns:
        The value of its last expression, as a cell shows it; where the body awaits, a coroutine that returns it.

    Raises:
        UsageError: For a line that cannot be read, and a body that is not Python. Nothing was sent.
    """
    __tracebackhide__ = True
    given = _read(line)
    if given.pop("help", False):
        print(_parser().format_help())
        return None
    try:
        codes = _compiled(shell, body)
    except SyntaxError as error:
        # IPython would show it with the functions that compile the cell.
        where = f", in line {error.lineno} of the program: {(error.text or '').strip()!r}" if error.lineno else ""
        raise UsageError(f"The cell is not Python: {error.msg}{where}. Nothing was sent.") from None
    dashboard, name = given.pop("dashboard", True), given.pop("agent", _AGENT)
    from pllm_notebook.sessions import resume_directory

    session = resume_directory(given.pop("directory"), **given)
    shell.user_ns["session"] = session
    shell.user_ns["agent"] = session.agent(name, dashboard=dashboard)
    if any(map(_awaits, codes)):
        return _run_awaiting(session, codes, shell.user_ns)
    value = None
    with session:
        for code in codes:
            value = eval(code, shell.user_ns)
    return value


async def _run_awaiting(session: Any, codes: list[CodeType], names: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    value = None
    async with session:
        for code in codes:
            value = eval(code, names)
            if _awaits(code):
                value = await value
    return value


def _compiled(shell: Any, body: str) -> list[CodeType]:
    """Compile a body: all but its last expression, and that. A traceback finds its lines under a name of its own."""
    source = shell.transform_cell(body)
    file = shell.compile.cache(source, cell_number(shell), raw_code=body)
    tree = shell.transform_ast(shell.compile.ast_parse(source, filename=file))
    last = tree.body[-1] if tree.body else None
    parts: list[tuple[ast.AST, str]] = [(tree, "exec")]
    # A semicolon at the end keeps a cell from showing its value.
    if isinstance(last, ast.Expr) and not source.rstrip().endswith(";"):
        tree.body.pop()
        parts.append((ast.Expression(last.value), "eval"))
    with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
        return [shell.compile(part, file, how) for part, how in parts]


def _awaits(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


class _Awaiting:
    """Turns a `%%pllm_session` cell whose body awaits into one that awaits it, and lets a cell have no body.

    Every other one is left to be run as it is: an interrupt reaches a cell's own work only where it does not await.

    Args:
        shell: IPython's.
    """

    # A terminal asks its transformers whether a cell is complete, and would take the line that awaits for complete
    # before the body is written; with this mark it asks about the cell magic instead.
    has_side_effects = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        first = _FIRST_LINE.fullmatch(lines[0]) if lines else None
        if first is None:
            return lines
        body = "".join(lines[1:])
        try:
            awaits = any(map(_awaits, _compiled(self._shell, body)))
        except SyntaxError:
            return lines  # reported when the cell runs
        if body.strip() and not awaits:
            return lines
        # IPython refuses an empty body.
        call = f"get_ipython().run_cell_magic({NAME!r}, {first[1].strip()!r}, {body or chr(10)!r})\n"
        return [f"await {call}" if awaits else call]


# The line.


class _Parser(MagicArgumentParser):
    """IPython's parser, whose errors are one line."""

    def format_help(self) -> str:
        return super().format_help().replace("::\n\n  %", "%", 1)


def _parser() -> MagicArgumentParser:
    from pllm_notebook.sessions import SessionConfig

    made = _Parser(  # type: ignore[no-untyped-call]
        prog=f"%{NAME}",
        usage=f"%%{NAME} DIRECTORY [--strategy STRATEGY] [--model MODEL] [OPTION ...]",
        description=(
            "Run the cell as a program that asks, with `session` and `agent` bound.\n"
            "Answers are kept in DIRECTORY and never requested again: run the cell again to resume."
        ),
        add_help=False,
    )
    made.allow_abbrev = False  # a shortened option would change its meaning when another is added
    made.add_argument("directory", nargs="?", metavar="DIRECTORY", help="Where answers, jobs and failures are kept.")
    # An object of the program's own has no text.
    add_options(made, {name: each for name, each in fields_of(SessionConfig).items() if each.variable})
    made.add_argument("--agent", metavar="NAME", help=f"Name of the agent that is bound. (default: {_AGENT})")
    shown = "Show the session's dashboard. (default: True)"
    made.add_argument("--dashboard", action=argparse.BooleanOptionalAction, default=None, help=shown)
    made.add_argument("--help", action="store_true", default=None, help="Show this.")
    return made


def _read(line: str) -> dict[str, Any]:
    """Read the line: name to value of what was given.

    Raises:
        UnknownOptionError: For an unknown option.
        UsageError: For a line that cannot be read.
    """
    parser = _parser()
    try:
        words = shlex.split(line)
    except ValueError as error:  # a quote that does not end
        raise UsageError(f"%%{NAME}: {error}. Nothing was sent.") from None
    given, unknown = parsed(parser, words, f"%%{NAME}")
    if "-h" in unknown:
        return {"help": True}
    refuse_unknown(unknown, [option for action in parser._actions for option in action.option_strings])
    for word in unknown:
        raise UsageError(
            f"{word!r} is unexpected on the line of %%{NAME}, after the directory. Put a path with spaces in quotes. "
            f"Nothing was sent."
        )
    found = {name: value for name, value in vars(given).items() if value is not None}
    if "directory" not in found and "help" not in found:
        raise UsageError(f"%%{NAME} needs a directory: %%{NAME} .pllm/enzymes --strategy batch. Nothing was sent.")
    return found

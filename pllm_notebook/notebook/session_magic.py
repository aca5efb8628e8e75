"""`%%pllm_session`: a cell that runs as the program of a session. Run it again until the program ends."""

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
    """Add the magic, and the transformer for cells that await. A second load changes nothing."""

    @no_var_expand
    def cell_magic(line: str, cell: str) -> Any:
        __tracebackhide__ = True  # the traceback of an error shows the cell's own lines
        return run_program(shell, line, cell)

    # The options are not listed here, so that sessions are loaded only on use.
    cell_magic.__doc__ = f"Run the cell as a program that asks (%%{NAME} --help)."
    shell.register_magic_function(cell_magic, "cell", NAME)
    unload_from(shell, magic=False)
    shell.input_transformers_cleanup.append(_Awaiting(shell))


def unload_from(shell: Any, *, magic: bool = True) -> None:
    """Remove everything that `load_into` added. Variables bound by a program are kept."""
    if magic:
        shell.magics_manager.magics["cell"].pop(NAME, None)
    found = shell.input_transformers_cleanup
    found[:] = [each for each in found if not isinstance(each, _Awaiting)]


def run_program(shell: Any, line: str, body: str) -> Any:
    """Run a cell's body as the block of a session, in the notebook's own namespace.

    `session` and `agent` are bound there and stay bound. At a pending value the cell ends with the session's summary;
    run the cell again to resume.

    Args:
        shell: The IPython shell.
        line: The text after `%%pllm_session`.
        body: The program.

    Returns:
        The value of the last expression, as for any cell; if the body awaits, a coroutine that returns it.

    Raises:
        UsageError: If the line cannot be parsed, or the body is not valid Python. Nothing was sent.
    """
    __tracebackhide__ = True
    given = _read(line)
    if given.pop("help", False):
        print(_parser().format_help())
        return None
    try:
        codes = _compiled(shell, body)
    except SyntaxError as error:
        # IPython would show the error with the functions that compile the cell.
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
    """Compile a body and its last expression separately, under a file name from which tracebacks show the lines."""
    source = shell.transform_cell(body)
    file = shell.compile.cache(source, cell_number(shell), raw_code=body)
    tree = shell.transform_ast(shell.compile.ast_parse(source, filename=file))
    last = tree.body[-1] if tree.body else None
    parts: list[tuple[ast.AST, str]] = [(tree, "exec")]
    # A final semicolon keeps a cell from displaying its value.
    if isinstance(last, ast.Expr) and not source.rstrip().endswith(";"):
        tree.body.pop()
        parts.append((ast.Expression(last.value), "eval"))
    with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
        return [shell.compile(part, file, how) for part, how in parts]


def _awaits(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


class _Awaiting:
    """Rewrites a `%%pllm_session` cell whose body awaits so that it is awaited, and allows an empty body.

    Other cells are unchanged: an interrupt reaches a cell's own work only if it is not awaited.

    Args:
        shell: The IPython shell.
    """

    # A terminal applies the transformers to decide whether a cell is complete. The awaited line would be complete
    # before the body is written; with this attribute IPython checks the cell magic instead.
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
    """IPython's parser, with errors in one line."""

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
    made.allow_abbrev = False  # an abbreviation could change its meaning when another option is added
    made.add_argument("directory", nargs="?", metavar="DIRECTORY", help="Where answers, jobs and failures are kept.")
    # An option that takes an object of the program has no text form.
    add_options(made, {name: each for name, each in fields_of(SessionConfig).items() if each.variable})
    made.add_argument("--agent", metavar="NAME", help=f"Name of the agent that is bound. (default: {_AGENT})")
    shown = "Show the session's dashboard. (default: True)"
    made.add_argument("--dashboard", action=argparse.BooleanOptionalAction, default=None, help=shown)
    made.add_argument("--help", action="store_true", default=None, help="Show this.")
    return made


def _read(line: str) -> dict[str, Any]:
    """Parse the line into a dictionary of the given options.

    Raises:
        UnknownOptionError: If an option is unknown.
        UsageError: If the line cannot be parsed.
    """
    parser = _parser()
    try:
        words = shlex.split(line)
    except ValueError as error:  # an unterminated quote
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

"""`%%pllm`, `%pllm` and `%%pllm_session`: registered by `%load_ext pllm_notebook`, removed by `%unload_ext`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from IPython.core.magic import no_var_expand

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import look_after_jobs
from pllm_notebook.notebook import session_magic, tab_completion
from pllm_notebook.notebook.arguments import help_text
from pllm_notebook.notebook.cell_magic import run_cell
from pllm_notebook.notebook.line_magic import run_command

__all__ = ["awaited", "load", "unload"]

_NAME = "pllm"
_CELLS = (_NAME, session_magic.NAME)
# Only this exact name, because IPython answers `%%pllm?` from the docstring.
_FIRST_LINE = re.compile(rf"%%{_NAME}(?![\w?])(.*)", flags=re.DOTALL)


def load(shell: Any) -> None:
    """Add the magics, the transformer that awaits a cell, and the completions. A second load changes nothing."""

    @no_var_expand
    async def cell_magic(line: str, cell: str | None = None) -> Any:
        return await run_cell(line, cell, shell.user_ns, blocking=getattr(shell, "kernel", None) is None)

    @no_var_expand
    def line_magic(line: str) -> Any:
        return run_command(line)

    cell_magic.__doc__ = help_text()
    line_magic.__doc__ = run_command.__doc__
    shell.register_magic_function(cell_magic, "cell", _NAME)
    shell.register_magic_function(line_magic, "line", _NAME)
    for name in _CELLS:
        # Below the first line of a cell, IPython looks for a line magic of this name.
        shell.register_magic_function(_not_first(name), "line", f"%{name}")
    transformers = shell.input_transformers_cleanup
    if awaited not in transformers:
        transformers.append(awaited)
    session_magic.load_into(shell)
    tab_completion.load(shell)
    # After the cell, because the same cell often changes the configuration.
    shell.events.register("post_run_cell", _after_cell)


def unload(shell: Any) -> None:
    """Remove everything that `load` added. Bound variables and active runs are kept."""
    for kind in ("cell", "line"):
        shell.magics_manager.magics[kind].pop(_NAME, None)
    for name in _CELLS:
        shell.magics_manager.magics["line"].pop(f"%{name}", None)
    if awaited in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(awaited)
    session_magic.unload_from(shell)
    tab_completion.unload(shell)
    with suppress(ValueError):
        shell.events.unregister("post_run_cell", _after_cell)


def _not_first(name: str) -> Callable[[str], None]:
    """Return a line magic whose error says where the cell magic belongs."""

    @no_var_expand
    def refuse(line: str) -> None:
        raise UsageError(
            f"%%{name} is the first line of its cell, with nothing above it, not even a comment. Move what is above "
            f"into another cell. Nothing was sent."
        )

    return refuse


def _after_cell(result: object = None) -> None:
    look_after_jobs()


def awaited(lines: list[str]) -> list[str]:
    """Rewrite a `%%pllm` cell so that it is awaited, which keeps the notebook's event loop free.

    IPython calls a cell magic and displays its return value; a coroutine would be displayed and never run.
    """
    first = _FIRST_LINE.fullmatch(lines[0]) if lines else None
    if first is None:
        return lines
    line, body = first[1].strip(), "".join(lines[1:]) or "\n"  # IPython refuses an empty body
    return [f"await get_ipython().run_cell_magic({_NAME!r}, {line!r}, {body!r})\n"]


# A terminal applies the transformers to decide whether a cell is complete. The awaited line would be complete before
# the body is written; with this attribute IPython checks the cell magic instead.
awaited.has_side_effects = True  # type: ignore[attr-defined]

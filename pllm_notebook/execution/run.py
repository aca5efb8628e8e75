"""The user's handle of a run. It has only public names."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from typing import Any, NoReturn, Self

from pllm_notebook.display_registry import show_in_cell
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution.explain import Explanation
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.row_source import EvaluableRows, JoinableRows
from pllm_notebook.execution.run_summary import live_lines, shown
from pllm_notebook.execution.stop import State
from pllm_notebook.options import is_number
from pllm_notebook.types import Progress

__all__ = ["Run", "handle_of", "live_of"]


class Run:
    """The handle of one run. `df.llm.submit` returns one; every other call starts a run too, listed by `pllm.runs()`.

    `await run` and `run.result()` return the frame; `run.to_frame()` returns the current answers at any time.
    """

    __slots__ = ("__weakref__", "_live")

    def __init__(self, live: LiveRun) -> None:
        self._live = live

    def __repr__(self) -> str:
        return repr(self._live)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A run cannot be copied: a deep copy of an object that contains a run refers to the same run.
        return self

    def __reduce__(self) -> NoReturn:
        raise PllmError(
            f"The run {self.id!r} cannot be pickled: its calls are of this process. Pickle its frame, "
            f"run.to_frame(), or its id: pllm.run({self.id!r}) finds it in every process with this cache directory."
        )

    def _repr_html_(self) -> str:
        p = self.progress()
        lines = live_lines(self.id, p, self._live.rows.source, self.origin)
        return shown(f"Run {self.id}", lines, simulated=p.simulated)

    def _ipython_display_(self) -> None:
        """Show a live view in the running cell; otherwise let IPython show `repr` or `_repr_html_`."""
        if not show_in_cell("run", self):
            raise NotImplementedError  # tells IPython to show it in another way

    @property
    def id(self) -> str:
        """A short id, also in `df.attrs` of the result."""
        return self._live.id

    @property
    def origin(self) -> str:
        """The notebook and cell, or the script, that started it; "" for unknown."""
        return self._live.origin

    @property
    def started_at(self) -> float:
        """Start time in seconds since 1970."""
        return self._live.started_at

    @property
    def state(self) -> State:
        """One of "running", "done", "cancelled" and "failed"."""
        return self._live.state

    @property
    def errors(self) -> Any:
        """The failed rows: position, label, kind, message, attempts, raw text, cost."""
        return self._live.errors

    @property
    def cost(self) -> float | None:
        """Cost of this run's calls in US dollars, None if the price is unknown. Cached answers are free."""
        return self._live.cost

    def progress(self) -> Progress:
        """Return the current counts."""
        return self._live.progress()

    def done(self) -> bool:
        """Return whether the run has ended in any way."""
        return self._live.done()

    def cancel(self) -> None:
        """Stop the run: send no more calls, cancel the requests on the wire, keep all finished answers.

        Callable from any thread; returns at once. A cancelled request may have been paid for.
        """
        self._live.cancel()

    def pause(self) -> None:
        """Send no new calls until `resume`. Those on the wire finish. Callable from any thread; returns at once."""
        self._live.pause()

    def resume(self) -> None:
        """Continue after `pause`. Callable from any thread; returns at once."""
        self._live.resume()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the run has ended; for a batch with `wait=False`, until its jobs are submitted.

        Args:
            timeout_s: Maximum time to block in seconds, after which it returns in any case; None for no limit.

        Raises:
            KeyboardInterrupt: After an interrupt, which also cancels the run; batch jobs keep running.
            UsageError: If *timeout_s* is not a number of seconds. The run continues.
        """
        if timeout_s is not None and not (is_number(timeout_s) and timeout_s >= 0):
            raise UsageError(
                f"timeout_s is a number of seconds, at least 0, or None for no limit, not {timeout_s!r}. The run goes "
                f"on."
            )
        self._live.wait(timeout_s)

    def result(self) -> Any:
        """Wait for the end, and return the answers in the caller's form.

        Raises:
            KeyboardInterrupt: After an interrupt, which also cancels the run.
            RunInterrupted: If the run was cancelled.
            ProviderRejectedError: If the provider rejected the key, model or quota.
            RowError: If a row failed, with `errors="raise"` or `mode="sync"`.
            UsageError: If nothing could be sent (no key, no package).
        """
        return self._live.result()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._live.__await__()

    def to_frame(self, df: Any = None, *, response_format: Any = None) -> Any:
        """Return the current answers; rows without an answer have NA. Sends nothing.

        Args:
            df: A frame to join the answers to, in any order and with any index. Rows are matched by the content of the
                columns that the prompt used. Rows that were not asked have NA, and a warning counts them. None for the
                run's own frame.
            response_format: The type of the answers. Only a run of an earlier kernel may need it; here it is only
                checked.

        Raises:
            PllmError: If no row of *df* was asked, *df* lacks a column that was asked, or the run has no frame.
            NameClashError: If *df* has a column with the result's name and values that are not a run's answers.
            UsageError: If *response_format* gives other columns.
        """
        if df is None and response_format is None:
            return self._live.to_frame()
        rows = self._live.rows
        if not isinstance(rows, JoinableRows):
            raise PllmError(f"The answers of the run {self.id!r} cannot be joined to a frame: it has none itself.")
        if response_format is not None:
            rows.check_type(self._live, response_format)
        return self._live.to_frame() if df is None else rows.assemble_beside(self._live, df)

    def evaluate(self, against: Any, field: str | None = None) -> Any:
        """Compare a field of the answers with known labels, like `df.llm.evaluate`. Sends nothing.

        Args:
            against: Name of a column of the run's frame, or a Series with its index.
            field: Name of the field; None for the only field, or the one with the same name as the labels.

        Returns:
            An `Evaluation`: accuracy, kappa, report, confusion.

        Raises:
            PllmError: If the run has no dataframe.
            UsageError: If there is nothing to compare.
        """
        rows = self._live.rows
        if not isinstance(rows, EvaluableRows):
            raise PllmError("This run has no dataframe, so there are no labels beside its answers.")
        return rows.evaluate(self._live, against, field)

    def explain(self, row: int) -> Explanation:
        """Explain one row's call: what was sent, what came back, what it cost. Sends nothing.

        Args:
            row: Position, counted from 0; negative to count from the end.

        Returns:
            An `Explanation`: prompt, body, raw reply, attempts, tokens, cost. A notebook shows it as a table.

        Raises:
            UsageError: If there is no such row.
        """
        return self._live.explain(row)

    def retry(self, kinds: Sequence[str] | None = None) -> Run:
        """Send failed rows again in this run. Returns at once.

        Args:
            kinds: Failure kinds to send again; None for those that may succeed now. A failure that was paid for
                (refusal, truncated, schema) and is named here is paid for again.

        Returns:
            This run, running again: `.wait()` or `.result()` waits for it.

        Raises:
            PllmError: If the run has not ended, or an internal error ended it.
        """
        self._live.retry(kinds)
        return self


def handle_of(live: LiveRun) -> Run:
    """Return the handle of a run. It is the same object as long as it is referenced."""
    held = None if live.handle is None else live.handle()
    if isinstance(held, Run):
        return held
    handle = Run(live)
    live.handle = weakref.ref(handle)
    return handle


def live_of(handle: Run) -> LiveRun:
    """Return the run of a handle."""
    return handle._live

"""A run, as a person holds it: a handle, with public names alone."""

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
    """A handle of one run. Made by `df.llm.submit`; every other call makes a run inside, which `pllm.runs()` has.

    `await run` and `run.result()` give the frame; `run.to_frame()` gives what there is at any moment.
    """

    __slots__ = ("__weakref__", "_live")

    def __init__(self, live: LiveRun) -> None:
        self._live = live

    def __repr__(self) -> str:
        return repr(self._live)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # There is one run, whatever holds its handle: a copy of a dict or a dataclass with a run in it has the same.
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
        """Show a live view in the cell that is running; elsewhere, `repr` or `_repr_html_`."""
        if not show_in_cell("run", self):
            raise NotImplementedError  # how IPython is asked to show it in another way

    @property
    def id(self) -> str:
        """A short word, also in `df.attrs` of the result."""
        return self._live.id

    @property
    def origin(self) -> str:
        """The notebook and cell, or the script, that it comes from; "" for unknown."""
        return self._live.origin

    @property
    def started_at(self) -> float:
        """When it was started, in seconds since 1970."""
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
        """US dollars that this run's calls cost, None where the price is unknown. Cached answers add nothing."""
        return self._live.cost

    def progress(self) -> Progress:
        """Return the counts of this moment."""
        return self._live.progress()

    def done(self) -> bool:
        """Return whether the run has ended, however it did."""
        return self._live.done()

    def cancel(self) -> None:
        """Stop: admit nothing more, cancel what is on the wire, keep everything finished.

        From any thread; returns at once. A cancelled request may have been paid for.
        """
        self._live.cancel()

    def pause(self) -> None:
        """Send no new calls until `resume`; those on the wire end, and are kept. From any thread; returns at once."""
        self._live.pause()

    def resume(self) -> None:
        """Go on after `pause`. From any thread; returns at once."""
        self._live.resume()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the run has ended; with `wait=False`, until its jobs are submitted.

        Args:
            timeout_s: At most so many seconds, after which it returns all the same; None for no limit.

        Raises:
            KeyboardInterrupt: After an interrupt, which also cancels the run; batch jobs go on.
            UsageError: If *timeout_s* is no number of seconds. The run goes on.
        """
        if timeout_s is not None and not (is_number(timeout_s) and timeout_s >= 0):
            raise UsageError(
                f"timeout_s is a number of seconds, at least 0, or None for no limit, not {timeout_s!r}. The run goes "
                f"on."
            )
        self._live.wait(timeout_s)

    def result(self) -> Any:
        """Wait, and return the answers in the caller's shape.

        Raises:
            KeyboardInterrupt: After an interrupt, which also cancels the run.
            RunInterrupted: When the run was cancelled.
            ProviderRejectedError: When key, model or quota were rejected.
            RowError: At a failed row, with `errors="raise"` or `mode="sync"`.
            UsageError: When nothing could be sent (no key, no package).
        """
        return self._live.result()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._live.__await__()

    def to_frame(self, df: Any = None, *, response_format: Any = None) -> Any:
        """Return the answers as they are now; rows without one have NA.

        Args:
            df: Other rows to put them beside, in any order and with any index, matched by the content of the columns
                that were asked; a row that was not asked has NA, and a warning counts those. None for the run's own.
            response_format: As for a run of an earlier kernel, which may need it. This one has its type.

        Raises:
            PllmError: When no row of *df* was asked, a column that was asked is not in it, or the run has no frame.
            NameClashError: When *df* has a column of the result's name with other values than a run's answers.
            UsageError: When *response_format* makes other columns.
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
        """Compare a field of the answers with known labels, as `df.llm.evaluate` does. Sends nothing.

        Args:
            against: Name of a column of the frame that was asked, or a Series with its index.
            field: None for the only field, or the one that is named as the labels are.

        Returns:
            An `Evaluation`: accuracy, kappa, report, confusion.

        Raises:
            PllmError: When the run has no dataframe.
            UsageError: When nothing can be compared.
        """
        rows = self._live.rows
        if not isinstance(rows, EvaluableRows):
            raise PllmError("This run has no dataframe, so there are no labels beside its answers.")
        return rows.evaluate(self._live, against, field)

    def explain(self, row: int) -> Explanation:
        """Show everything about one row's call. Sends nothing.

        Args:
            row: Position, counted from 0; negative from the end.

        Returns:
            An `Explanation`: prompt, body, raw reply, attempts, tokens, cost; shown, a page of them.

        Raises:
            UsageError: For a row that is not there.
        """
        return self._live.explain(row)

    def retry(self, kinds: Sequence[str] | None = None) -> Run:
        """Send failed rows again, in this run, and return it at once.

        Args:
            kinds: Kinds of failure to try again; None for those that can succeed unchanged. A paid
                failure (refusal, truncated, schema) that is named here is paid for again.

        Returns:
            This run, which goes on: `.wait()` or `.result()` waits for it.

        Raises:
            PllmError: While the run is still going, or after an internal error ended it.
        """
        self._live.retry(kinds)
        return self


def handle_of(live: LiveRun) -> Run:
    """Return the handle of a run: the same one for as long as somebody holds it."""
    held = None if live.handle is None else live.handle()
    if isinstance(held, Run):
        return held
    handle = Run(live)
    live.handle = weakref.ref(handle)
    return handle


def live_of(handle: Run) -> LiveRun:
    """Return the run of a handle."""
    return handle._live

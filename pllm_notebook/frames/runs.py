"""`pllm.runs` and `pllm.run`: the runs of this kernel and of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from pllm_notebook.display_registry import show_runs
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import Run, find
from pllm_notebook.execution import runs as live_runs
from pllm_notebook.formatting import format_usd_or
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.libraries import default_library
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.report_tables import html_table
from pllm_notebook.store import RunFiles, age_in_seconds, current_directory

__all__ = ["Runs", "RunsOf", "open_run", "runs"]

_SHOWN = 20
_COLUMNS = {
    "when": CellType.MOMENT,
    "run": CellType.TEXT,
    "state": CellType.TEXT,
    "from": CellType.TEXT,
    "model": CellType.TEXT,
    "asked": CellType.TEXT,
    "rows": CellType.COUNT,
    "answered": CellType.COUNT,
    "cached": CellType.COUNT,
    "failed": CellType.COUNT,
    "cost_usd": CellType.REAL,
    "seconds": CellType.SECONDS,
}

Handle = Run | RecordedRun


class Runs(Sequence[Handle]):
    """Runs, oldest first: those of this kernel that are still in memory as live handles, the others as recorded.

    `runs[-1]` is the newest. Shown, it is a table of the newest 20; `.frame` has all.
    """

    def __init__(self, handles: Sequence[Handle]) -> None:
        self._handles = list(handles)

    @overload
    def __getitem__(self, at: int) -> Handle: ...
    @overload
    def __getitem__(self, at: slice) -> Runs: ...
    def __getitem__(self, at: int | slice) -> Handle | Runs:
        return Runs(self._handles[at]) if isinstance(at, slice) else self._handles[at]

    def __len__(self) -> int:
        return len(self._handles)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = "\n".join(map(repr, self._handles[-_SHOWN:]))
        return shown or "No runs."

    def _repr_html_(self) -> str:
        if not self._handles:
            return "<p>No runs.</p>"
        lines = [_cells(handle) for handle in self.newest()]
        more = len(self) - len(lines)
        older = f"<p>and {more:,} older: pllm.runs().frame has all</p>" if more > 0 else ""
        return f"{html_table(list(_COLUMNS), lines)}{older}"

    def _ipython_display_(self) -> None:
        """Show the table with buttons that open runs, in a notebook with widgets; elsewhere without."""
        if not (self._handles and show_runs(self)):
            raise NotImplementedError  # how IPython is asked to show it in another way

    def newest(self) -> list[Handle]:
        """Return the runs that the table shows, in its order: the newest first."""
        return self._handles[-_SHOWN:][::-1]

    @property
    def frame(self) -> Any:
        """A line a run, oldest first.

        Columns: when (UTC), run (its id), state, from (notebook and cell, or script), model, asked (the prompt, or the
        type's name), rows, answered (from the cache or by a call), cached (those from the cache), failed, cost_usd (NA
        for unknown), seconds.
        """
        lines = [_line(handle) for handle in self._handles]
        return default_library().report(_COLUMNS, lines)


class RunsOf:
    """`pllm.runs`: called, it lists the runs; `pllm.runs.clear` deletes their records. Sends nothing."""

    def __call__(self) -> Runs:
        """List the runs of this kernel, and those of earlier kernels in the registry of the cache directory."""
        # The registry first: a run that begins in between is then listed by its live handle, or not yet.
        recorded = list(RecordedRun.newest_first())
        live = live_runs()
        ids = {run.id for run in live}
        recorded = [run for run in recorded if run.id not in ids]
        return Runs(sorted([*recorded, *live], key=lambda run: (_began(run), getattr(run, "number", -1))))

    def __iter__(self) -> Iterator[Handle]:
        return iter(self())

    def clear(self, older_than: timedelta | float | None = None) -> int:
        """Delete records of runs; answers stay in the cache, and your handles stay valid.

        Args:
            older_than: Only records of runs that began at least this long ago, a timedelta or seconds; None for all.

        Returns:
            The number of records deleted.
        """
        return RunFiles(current_directory()).clear(age_in_seconds(older_than))

    def __repr__(self) -> str:
        return repr(self())

    def _ipython_display_(self) -> None:
        self()._ipython_display_()

    def _repr_html_(self) -> str:
        return self()._repr_html_()


runs = RunsOf()


def open_run(run_id: str) -> Handle:
    """Return the run with this id: live if this kernel has it in memory, else as recorded. Sends nothing.

    Raises:
        PllmError: When there is none.
    """
    if not isinstance(run_id, str):
        raise UsageError(f"pllm.run takes a run's id, such as df.attrs['pllm_run'], not {run_id!r}.")
    found = find(run_id) or RecordedRun.find(run_id)
    if found is None:
        raise PllmError(f"There is no run {run_id!r} in {current_directory()}. pllm.runs() lists those that exist.")
    return found


def _began(run: Handle) -> float:
    return run.started_at if isinstance(run, Run) else float(run.header["started_at"])


def _line(run: Handle) -> dict[str, Any]:
    figures: tuple[Any, ...]
    if isinstance(run, Run):
        p = run.progress()
        template = getattr(run.rows, "template", None)
        asked = p.label if template is None else template.source
        figures = (
            p.state,
            run.origin,
            p.model,
            asked,
            p.total,
            p.done + p.cached,
            p.cached,
            p.failed,
            p.cost_usd,
            p.elapsed_s,
        )
    else:
        h = run.header
        asked = h["prompt"] or h["label"]
        figures = (run.state, h["origin"], h["model"], asked, h["total"], h["answered"] + h["cached"], h["cached"],
                   h["failed"], h["cost_usd"], h["duration_s"])  # fmt: skip
    when = datetime.fromtimestamp(int(_began(run)), UTC)
    return dict(zip(_COLUMNS, (when, run.id, *figures), strict=True))


def _cells(run: Handle) -> list[str]:
    line = _line(run)
    cost = line["cost_usd"]
    line["asked"] = line["asked"] if len(line["asked"]) <= 60 else line["asked"][:59] + "…"
    if run.progress().simulated if isinstance(run, Run) else run.header["simulated"]:
        line["model"] += " (SIMULATED)"
    line["when"] = f"{line['when']:%Y-%m-%d %H:%M}"
    line["cost_usd"] = format_usd_or(cost, "unknown")
    line["seconds"] = f"{line['seconds']:.1f}"
    return [f"{value:,}" if isinstance(value, int) else str(value) for value in line.values()]

"""`pllm.runs` and `pllm.run`: the runs of this kernel and of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from pllm_notebook.display_registry import show_in_cell
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import Run, find, handle_of, live_of
from pllm_notebook.execution import runs as live_runs
from pllm_notebook.failures import truncate
from pllm_notebook.formatting import counted, format_usd_or, strip_control_chars
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.libraries import default_library
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.report_tables import html_table
from pllm_notebook.store import RunFiles, age_in_seconds, current_directory

__all__ = ["Handle", "Runs", "RunsOf", "open_run", "runs"]

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
    "whole": CellType.TEXT,
}
# The columns of the table that a notebook shows, with their heads.
_HEADS = {name: name for name in _COLUMNS if name != "whole"} | {"when": "when (UTC)", "cost_usd": "cost"}
_SUMMED = ("rows", "answered", "cached", "failed", "seconds")

Handle = Run | RecordedRun
"""A handle of a run, in memory or from the registry."""


class Runs(Sequence[Handle]):
    """Runs, oldest first: live handles for runs of this kernel still in memory, recorded runs for the others.

    `runs[-1]` is the newest. It displays as a table of the newest 20, in which the runs of one call share a line (the
    rounds of a race, the steps of `reduce`, the tables of `parse_batches`). `.frame` has all runs.

    Args:
        handles: The runs, oldest first.
        is_whole: Whether these are the runs of one call, which are then shown in separate lines.
    """

    def __init__(self, handles: Sequence[Handle], *, is_whole: bool = False) -> None:
        self._handles = list(handles)
        self._is_whole = is_whole

    @overload
    def __getitem__(self, at: int) -> Handle: ...
    @overload
    def __getitem__(self, at: slice) -> Runs: ...
    def __getitem__(self, at: int | slice) -> Handle | Runs:
        index: object = at
        if isinstance(index, str):
            raise UsageError(
                f"Runs are in the order of time: [-1] is the newest. pllm.run({index!r}) opens one by its id."
            )
        return Runs(self._handles[at]) if isinstance(at, slice) else self._handles[at]

    def __len__(self) -> int:
        return len(self._handles)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "\n".join(map(_text, reversed(self.lines()))) or "No runs."

    def _repr_html_(self) -> str:
        if not self._handles:
            return "<p>No runs.</p>"
        shown = self.lines()
        more = len(self) - sum(map(len, shown))
        older = f"<p>and {more:,} older: pllm.runs().frame has all</p>" if more > 0 else ""
        return f"{html_table(list(_HEADS.values()), map(_cells, shown))}{older}"

    def _ipython_display_(self) -> None:
        """Show the table with buttons that open runs, in a notebook with widgets; otherwise without buttons."""
        if not (self._handles and show_in_cell("runs", self)):
            raise NotImplementedError  # makes IPython use another representation

    def lines(self) -> list[list[Handle]]:
        """Return the runs of each line of the displayed table, newest line first; within a line, oldest run first."""
        lines: dict[str, list[Handle]] = {}
        for run in reversed(self._handles):
            key = run.id if self._is_whole else _whole(run) or run.id
            if key in lines or len(lines) < _SHOWN:
                lines.setdefault(key, []).append(run)
        return [line[::-1] for line in lines.values()]

    @property
    def frame(self) -> Any:
        """One line per run, oldest first.

        Columns: when (UTC), run (its id), state, from (notebook and cell, or script), model, asked (the prompt, or the
        type's name), rows, answered (from the cache or by a call), cached (those from the cache), failed, cost_usd (NA
        if unknown), seconds, whole (common name of the runs of one call, such as "race 3f2a91c4"; "" for a run alone).
        """
        lines = [_line(handle) for handle in self._handles]
        return default_library().report(_COLUMNS, lines)


class RunsOf:
    """`pllm.runs`: call it to list the runs. `pllm.runs.clear` deletes their records. Sends nothing."""

    def __call__(self) -> Runs:
        """List the runs of this kernel, and those of earlier kernels in the registry of the cache directory."""
        # The registry is read first, so that a run that starts in between is never listed as a recorded one.
        recorded = list(RecordedRun.newest_first())
        live = live_runs()
        ids = {run.id for run in live}
        recorded = [run for run in recorded if run.id not in ids]
        return Runs(sorted([*recorded, *map(handle_of, live)], key=_order))

    def __iter__(self) -> Iterator[Handle]:
        return iter(self())

    def clear(self, older_than: timedelta | None = None) -> int:
        """Delete records of runs. Answers stay in the cache, and existing handles stay valid.

        Args:
            older_than: Only records of runs that began at least this long ago, such as `timedelta(days=90)`. None
                for all.

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
    """Return the run with this id: live if this kernel has it in memory, otherwise as recorded. Sends nothing.

    Raises:
        UsageError: If *run_id* is not a string.
        PllmError: If there is no such run.
    """
    if not isinstance(run_id, str):
        raise UsageError(f"pllm.run takes a run's id, such as df.attrs['pllm_run'], not {run_id!r}.")
    live = find(run_id)
    found = RecordedRun.find(run_id) if live is None else handle_of(live)
    if found is None:
        raise PllmError(f"There is no run {run_id!r} in {current_directory()}. pllm.runs() lists those that exist.")
    return found


def _began(run: Handle) -> float:
    return run.started_at if isinstance(run, Run) else float(run.header["started_at"])


def _order(run: Handle) -> tuple[float, int]:
    """Return the sort key of a run: its start, and its creation order for runs of this kernel with equal starts."""
    return _began(run), live_of(run).number if isinstance(run, Run) else -1


def _line(run: Handle) -> dict[str, Any]:
    figures: tuple[Any, ...]
    if isinstance(run, Run):
        p = run.progress()
        template = getattr(live_of(run).rows, "template", None)
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
    return dict(zip(_COLUMNS, (when, run.id, *figures, _whole(run)), strict=True))


def _whole(run: Handle) -> str:
    """Return the common name of the runs of one call, or "" for the only run of its call."""
    whole = getattr(live_of(run).rows, "whole", "") if isinstance(run, Run) else run.header.get("whole", "")
    return str(whole)


def _is_simulated(run: Handle) -> bool:
    return bool(run.progress().simulated if isinstance(run, Run) else run.header["simulated"])


def _sum(runs: Sequence[Handle]) -> dict[str, Any]:
    """Return the combined line of the runs of one call. Its seconds are the sum, even if runs were concurrent."""
    lines = [_line(run) for run in runs]
    costs = [line["cost_usd"] for line in lines]
    states = {line["state"] for line in lines}
    models = dict.fromkeys(line["model"] for line in lines)
    return {
        **lines[0],
        **{name: sum(line[name] for line in lines) for name in _SUMMED},
        "run": counted(len(runs), "run"),
        "state": next((state for state in ("running", "interrupted") if state in states), lines[-1]["state"]),
        "model": ", ".join(models),
        "asked": f"{lines[0]['whole'].split()[0]}: {lines[0]['asked']}",
        "cost_usd": None if None in costs else sum(costs),
    }


def _cells(runs: Sequence[Handle]) -> list[str]:
    """Return the cells of a line of the table."""
    line = _sum(runs) if len(runs) > 1 else _line(runs[0])
    line["asked"] = truncate(line["asked"], 60)
    line["model"] = truncate(line["model"], 60)
    if any(map(_is_simulated, runs)):
        line["model"] += " (SIMULATED)"
    line["when"] = f"{line['when']:%Y-%m-%d %H:%M}"
    line["cost_usd"] = format_usd_or(line["cost_usd"], "unknown")
    line["seconds"] = f"{line['seconds']:.1f}"
    return [f"{line[name]:,}" if isinstance(line[name], int) else str(line[name]) for name in _HEADS]


def _text(runs: Sequence[Handle]) -> str:
    """Return a line of text for the runs of a line of the table."""
    if len(runs) == 1:
        return repr(runs[0])
    line = _sum(runs)
    asked = strip_control_chars(truncate(line["asked"], 60))
    cost = format_usd_or(line["cost_usd"], "cost unknown")
    return f"<{line['run']}, {line['state']}: {line['answered']:,} of {line['rows']:,} answered, {cost}, {asked}>"

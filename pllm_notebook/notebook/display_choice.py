"""Which display a run or a session gets: a widget in a notebook, lines on stderr elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pllm_notebook.protocols import Display
from pllm_notebook.shell import in_kernel

if TYPE_CHECKING:
    from pllm_notebook.execution import Run
    from pllm_notebook.frames.job_table import Jobs
    from pllm_notebook.frames.runs import Runs
    from pllm_notebook.sessions import SessionDisplay

__all__ = ["choose_display", "choose_session_display", "review_view", "show_jobs", "show_run", "show_runs"]


def choose_display() -> Display | None:
    """Return the display for a run that starts now.

    A kernel gets the view (plain text where its widget library cannot be imported), marimo a bar of its own, anything
    else a bar on stderr. Loads a display library only here, and never IPython into a program that has not loaded it.
    """
    if in_kernel():
        from pllm_notebook.notebook.text import TextSink

        try:
            from pllm_notebook.notebook.view_sink import ViewSink
        except ImportError:
            return TextSink()
        return ViewSink()
    from pllm_notebook.notebook.marimo_sink import MarimoSink, in_marimo

    if in_marimo():
        return MarimoSink()
    from pllm_notebook.notebook.terminal import TerminalSink

    return TerminalSink()


def show_run(run: Run) -> bool:
    """Show a live view of *run* in the cell that is running; False outside a kernel, or without its widget library."""
    if not in_kernel():
        return False
    try:
        from pllm_notebook.notebook.view_sink import attach_view
    except ImportError:
        return False
    from pllm_notebook.execution import live_of

    attach_view(live_of(run))
    return True


def show_runs(runs: Runs) -> bool:
    """Show *runs* as a table with buttons; False outside a kernel, or without its widget library."""
    if not in_kernel():
        return False
    try:
        from pllm_notebook.notebook.runs_table import show_table
    except ImportError:
        return False
    show_table(runs)
    return True


def choose_session_display() -> SessionDisplay | None:
    """Return the display for a session that begins now, as `choose_display` does for a run."""
    if not in_kernel():
        from pllm_notebook.notebook.session_terminal import TerminalSessionDisplay

        return TerminalSessionDisplay()
    from pllm_notebook.notebook.session_text import TextSessionDisplay

    try:
        from pllm_notebook.notebook.session_panel import WidgetSessionDisplay
    except ImportError:
        return TextSessionDisplay()
    return WidgetSessionDisplay()


def show_jobs(jobs: Jobs) -> bool:
    """Show *jobs* as a table with buttons; False outside a kernel, or without its widget library."""
    if not in_kernel():
        return False
    try:
        from pllm_notebook.notebook import job_panel
    except ImportError:
        return False
    job_panel.show_jobs(jobs)
    return True


def review_view(review: object) -> Any:
    """Return the MIME bundle of a review by keyboard, None outside a notebook and where widgets are missing."""
    if not in_kernel():
        return None
    try:
        from pllm_notebook.notebook.review_widget import ReviewWidget
    except ImportError:
        return None
    return ReviewWidget(review)._repr_mimebundle_()

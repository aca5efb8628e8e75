"""Registry of progress displays, so that runs do not depend on widgets.

The package's `__init__` registers the notebook's displays before any run is imported, so this module imports no runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pllm_notebook.runtime import Slot

if TYPE_CHECKING:
    from pllm_notebook.protocols import Display
    from pllm_notebook.types import Progress

__all__ = [
    "SafeDisplay", "new_display", "register_cell_view", "register_display", "register_session_display",
    "session_display", "show_in_cell",
]  # fmt: skip

logger = logging.getLogger("pllm_notebook")


class _Factories:
    """The factories of displays. None to show nothing."""

    run: Callable[[], Display | None] | None = None
    session: Callable[[], object | None] | None = None
    view: Callable[[str, Any], bool] | None = None


_FACTORIES: Slot[_Factories] = Slot("displays", _Factories, is_kept=True)


def register_display(factory: Callable[[], Display | None] | None) -> None:
    """Set the factory of run displays. It returns None if nothing should be shown."""
    _FACTORIES.value.run = factory


def new_display() -> Display | None:
    """Build the display of one run, or return None if nothing is shown."""
    factory = _FACTORIES.value.run
    return None if factory is None else factory()


def register_session_display(factory: Callable[[], object | None] | None) -> None:
    """Set the factory of session displays. It returns None if nothing should be shown."""
    _FACTORIES.value.session = factory


def session_display() -> object | None:
    """Build the display of one session, or return None. See `sessions.dashboard.SessionDisplay`."""
    factory = _FACTORIES.value.session
    return None if factory is None else factory()


def register_cell_view(show: Callable[[str, Any], bool] | None) -> None:
    """Set the function that shows a value live in the running cell. It returns False if it cannot."""
    _FACTORIES.value.view = show


def show_in_cell(kind: str, value: Any) -> bool:
    """Show a value live in the running cell. Return False if it cannot be shown.

    Args:
        kind: "run", "runs", "jobs" or "review".
        value: A value of that kind.
    """
    show = _FACTORIES.value.view
    try:
        return show is not None and show(kind, value)
    except Exception:
        logger.exception("The view of %s cannot be shown", kind)
        return False


class SafeDisplay:
    """A display whose errors never reach the run: a broken display must not lose an answer."""

    def __init__(self, sink: Display | None) -> None:
        self._sink = sink

    @property
    def stays(self) -> bool:
        """Whether the display's last line remains visible. False without a display, or if it is broken."""
        return self._sink is not None and self._sink.stays

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        self._tell("open", progress, cancel)

    def update(self, progress: Progress) -> None:
        self._tell("update", progress)

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        self._tell("close", progress, retry)

    def _tell(self, what: str, *args: object) -> None:
        if self._sink is None:
            return
        try:
            getattr(self._sink, what)(*args)
        except Exception:
            logger.exception("The progress display failed and is left alone from here on")
            self._sink = None

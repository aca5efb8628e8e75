"""A request file's lines as runs: some thousands at a time for each model, the next before the last have ended.

A window is a run like any other, so limits, retries, the answers that are known and the money are the engine's
business. A model's windows overlap, so that one late reply holds nothing up; and no model waits for another's.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from pllm_notebook.conversation import Body, Dialogue, Prompt, Turn
from pllm_notebook.engine import Ceiling, Patience
from pllm_notebook.prompt_lists.addresses import body_for
from pllm_notebook.prompt_lists.groups import Group
from pllm_notebook.prompt_lists.index import Index
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure
from pllm_notebook.run import Ask, Part, Purse, Run, WholePrompts, forget, options_for, start_list
from pllm_notebook.run.lists import ListCourse

__all__ = ["Feeder", "Window", "WindowMaker"]

# Lines of one window; a store's look-up takes five thousand at once.
LINES = 4_000
# Lines with pictures are large: what is planned is read whole.
_MOST_BYTES = 16 * 2**20
# Where a model has as few lines left open, its next window begins.
_BEGIN_AT = LINES // 2


class Bodies(Sequence[Prompt]):
    """The bodies of some lines, read from the file whenever one is needed.

    Args:
        index: The file.
        rows: The lines.
        dress: Makes the body of a line.
    """

    def __init__(self, index: Index, rows: array[int], dress: Callable[[int], Body]) -> None:
        self._index = index
        self._rows = rows
        self._dress = dress

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Prompt: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Prompt]: ...
    def __getitem__(self, at: int | slice) -> Prompt | Sequence[Prompt]:
        return [self._dress(row) for row in self._rows[at]] if isinstance(at, slice) else self._dress(self._rows[at])


class Window(WholePrompts):
    """Some lines of one question, and the run that asks them (see `run.Rows`).

    Args:
        label: A few words for failures that are kept.
        rows: The lines, by their place among the file's requests.
        bodies: What they ask.

    Attributes:
        rows: As given.
        left: Lines of it that have not been written. Counted down by whoever writes.
        refused: Why nothing more is to be asked of the model: what it said of the key, the model or the credit. None
            for nothing. Set by whoever writes.
    """

    def __init__(self, label: str, rows: array[int], bodies: Bodies) -> None:
        self.label = label
        self.rows = rows
        self.total = self.left = len(rows)
        self.refused: Failure | None = None
        self._bodies = bodies
        self._run: Run | None = None
        self._begun = threading.Event()

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the bodies of some lines."""
        return self._bodies[rows.start : rows.stop]

    def assemble(self, run: Run) -> None:
        """Return nothing: results are written as they land."""

    def errors(self, run: Run) -> None:
        """Return nothing, likewise."""

    def begin(self, part: Part, heard: Callable[[int], None], cache_dir: str | None, purse: Purse) -> None:
        """Start its run."""
        try:
            self._run = start_list([part], self, heard, cache_dir=cache_dir, purse=purse)
            forget(self._run)  # a person asked for a file, not for these
        finally:
            self._begun.set()

    @property
    def run(self) -> Run | None:
        """The run, once it has been started; None where it could not be. From any thread."""
        # Its first results may land before whoever starts it has it in hand.
        self._begun.wait()
        return self._run

    def let_go(self) -> None:
        """Forget how each line ended, where all are written."""
        course = None if self._run is None else self._run.course
        if self.left == 0 and isinstance(course, ListCourse):
            course.let_go()

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        run = self.run
        return run is None or (run.done() and (self.left == 0 or run.state != "done"))


class WindowMaker:
    """Make windows of a file's lines.

    Args:
        index: The file.
        options: Of all runs, as keywords.
        rates: Requests and tokens a minute, each None for no ceiling: of one provider and account together.
        cache_dir: Where answers are kept, None for the configured place.
        label: A few words for failures that are kept.
    """

    def __init__(
        self,
        index: Index,
        options: dict[str, Any],
        rates: tuple[float | None, float | None],
        cache_dir: str | None,
        label: str,
    ) -> None:
        self._index = index
        self._options = options
        self._rates = rates
        self._cache_dir = cache_dir
        self._label = label
        self._ceilings: dict[tuple[str, str], Ceiling] = {}
        self._purse = Purse(options.get("max_cost_usd"))

    def make(self, group: Group, rows: array[int], heard: Callable[[Window, int], None]) -> Window:
        """Start a run over some lines of a group; *heard* is called on the engine's loop, with each that has ended.

        Raises:
            UsageError: Where they cannot be asked, whatever they say. Nothing was sent.
        """
        ask = self.ask(group)
        limit = self._missing_limit(ask) if self._purse.ceiling_usd is not None and group.output_limit is None else {}
        target = group.target

        def dress(row: int) -> Body:
            body = body_for(self._index.line(row), target)
            return Body(_limited(body, limit) if limit else body)

        bodies = Bodies(self._index, rows, dress)
        window = Window(self._label, rows, bodies)
        window.begin(Part(ask, range(len(rows)), bodies), lambda row: heard(window, row), self._cache_dir, self._purse)
        return window

    def ask(self, group: Group) -> Ask:
        """Make the question of a group."""
        target = group.target
        given = {"model": target.label, "max_output_tokens": group.output_limit}
        ask = Ask(target, options_for(self._options | given), None, None, calls=True)
        ask.patience = Patience()
        if self._rates != (None, None):
            account = target.provider, target.account
            ask.ceiling = self._ceilings.setdefault(account, Ceiling(*self._rates))
        return ask

    def _missing_limit(self, ask: Ask) -> dict[str, Any]:
        """Return the field that bounds a reply, for lines that bound none: under a ceiling every call needs it."""
        empty = ask.target.wire.output_limit
        intended = ask.intended(Dialogue((Turn("user", "-"),)))
        return {name: value for name, value in intended.items() if empty({name: value}) is not None}


class Feeder:
    """The lines of one model, window by window. Used by one thread, except what says otherwise.

    Args:
        groups: What is asked of it, in the order of their waves.
        maker: Makes the windows.
        sizes: Gives the bytes of a line.

    Attributes:
        target: The model.
        windows: Those that are not over.
        begun: Lines that were taken up.
        stopped: Whether nothing more is begun.
    """

    def __init__(self, groups: Sequence[Group], maker: WindowMaker, sizes: Callable[[int], int]) -> None:
        self.target: ResolvedModel = groups[0].target
        self.windows: list[Window] = []
        self.begun = 0
        self.stopped = False
        self._refused: Failure | None = None
        self._wave = 0
        self._maker = maker
        self._sizes = sizes
        self._chunks = self._cut(groups)
        self._next: tuple[Group, array[int]] | None = next(self._chunks, None)

    @property
    def open(self) -> int:
        """Lines that were begun and have not been written."""
        return sum(window.left for window in self.windows)

    @property
    def over(self) -> bool:
        """Whether all is written that will be."""
        return not self.windows and (self._next is None or self.stopped)

    def feed(self, heard: Callable[[Window, int], None], failed: Callable[[Sequence[int], Failure], bool]) -> None:
        """Begin what can be begun now.

        Args:
            heard: See `WindowMaker.make`.
            failed: Takes lines that fail without being asked; False where it has no room for them now.
        """
        while self._next is not None and not self.stopped:
            group, rows = self._next
            if self._refused is not None:
                if not failed(rows, self._refused):
                    return
            elif self.open > _BEGIN_AT or (self.windows and group.wave > self._wave):
                return
            else:
                self._wave = group.wave
                self.windows.append(self._maker.make(group, rows, heard))
            self.begun += len(rows)
            self._next = next(self._chunks, None)

    def ended(self) -> list[Run]:
        """Let go of the windows that are over, and give their runs."""
        over = [window for window in self.windows if window.over]
        for window in self.windows:
            self._refused = self._refused or window.refused
        self.windows = [window for window in self.windows if window not in over]
        for window in over:
            window.let_go()
        return [window.run for window in over if window.run is not None]

    def _cut(self, groups: Sequence[Group]) -> Iterator[tuple[Group, array[int]]]:
        for group in groups:
            begin = size = 0
            for at, row in enumerate(group.rows):
                size += self._sizes(row)
                if at - begin == LINES - 1 or size >= _MOST_BYTES:
                    yield group, group.rows[begin : at + 1]
                    begin, size = at + 1, 0
            if begin < len(group.rows):
                yield group, group.rows[begin:]


def _limited(body: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    ((name, value),) = limit.items()
    nested = isinstance(value, dict) and isinstance(body.get(name), dict)
    return body | {name: body[name] | value if nested else value}

"""Notes of a session or an agent: a dictionary of JSON values that persists between runs of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError

__all__ = ["Metadata"]


class Metadata(MutableMapping[str, Any]):
    """Names and JSON values of a session or an agent, written on each change. Use from one thread at a time.

    A change inside a list or dictionary is detected only at the end of the session, which writes everything again.

    Args:
        values: Notes of earlier runs of the program.
        on_change: Called after each change, to write the notes.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, on_change: Callable[[], None] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})
        self._changed = on_change

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise UsageError(f"The name of a note is a string, not {name!r}.")
        _check(name, value)
        self._values[name] = value
        self._notify()

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self._notify()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def as_json(self) -> dict[str, Any]:
        """Return all notes, to be written.

        Raises:
            UsageError: For a list or dictionary that now contains a value that is not JSON.
        """
        for name, value in self._values.items():
            _check(name, value)
        return dict(self._values)

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed()


def _check(name: str, value: Any) -> None:
    """Refuse a value that does not survive a JSON round-trip."""
    with suppress(TypeError):  # the only exception of orjson.dumps
        if orjson.loads(orjson.dumps({name: value})) == {name: value}:
            return
    raise UsageError(
        f"The note {name!r} holds {value!r:.80}, of type {type(value).__name__}; a note is stored as JSON: text, "
        f"finite numbers (integers of at most 64 bits), True, False, None, and lists and dictionaries of these."
    )

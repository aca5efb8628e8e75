"""What a program notes about itself: a dictionary of JSON values that outlives the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError

__all__ = ["Metadata"]


class Metadata(MutableMapping[str, Any]):
    """Names and JSON values of a session or an agent. Told to be written on each change; from one thread at a time.

    A list or dictionary that is changed inside is not noticed until the session ends, which writes everything once
    more.

    Args:
        values: What was noted before.
        on_change: Called after each change; it writes.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, on_change: Callable[[], None] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})
        self._changed = on_change

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise UsageError(f"The name of a note is text, not {name!r}.")
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
        """Return all of it, to be written.

        Raises:
            UsageError: For a value that was changed inside into one that JSON does not have.
        """
        for name, value in self._values.items():
            _check(name, value)
        return dict(self._values)

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed()


def _check(name: str, value: Any) -> None:
    """Refuse what would come back as another value, or not at all."""
    with suppress(TypeError):  # of JSON's writer, which raises no other
        if orjson.loads(orjson.dumps({name: value})) == {name: value}:
            return
    raise UsageError(
        f"The note {name!r} holds {value!r:.80}, of type {type(value).__name__}; a note is kept as JSON: text, finite "
        f"numbers (whole ones of at most 64 bits), True, False, None, and lists and dictionaries of these."
    )

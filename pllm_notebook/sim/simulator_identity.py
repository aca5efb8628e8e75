"""Identity of a simulated provider: a short digest, for cache keys, of everything that determines its answers."""

from __future__ import annotations

import hashlib
import itertools
import types
import weakref
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.runtime import Slot
from pllm_notebook.sim.simulator_options import SimOptions

__all__ = ["identity"]

# Options that determine the answers. The others determine when, or whether, an answer arrives.
_ANSWERING = (
    "seed",
    "rungs",
    "reasoning_tokens",
    "refusal",
    "filtered",
    "truncation",
    "wrong_schema",
    "invalid_json",
    "faults_by",
    "refused_questions",
    "known_errors",
    "miscalibration",
)
# A value that a function refers to is hashed up to this size. A larger one is represented by its type.
_MAX_BYTES = 1 << 20


class _Numbers:
    """Numbers that distinguish objects which cannot be described."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def of(self, value: Any) -> int:
        try:
            return self._known.setdefault(value, next(self._next))
        except TypeError:  # not weakly referenceable, or not hashable
            return next(self._next)


# Kept by a reset: the numbers are part of cache keys, so two objects of one process must never share one.
_NUMBERS: Slot[_Numbers] = Slot("simulator numbers", _Numbers, is_kept=True)


def identity(options: Mapping[str, Any]) -> str:
    """Return a digest that identifies a simulator with these options, "" for the defaults.

    A plain function is identified by its code and the values it refers to, so its digest is the same in every kernel.
    Any other callable is identified by the object itself. The next kernel sends its calls again, which costs nothing.

    Args:
        options: As for `Simulator`, with `answers`.

    Raises:
        UnknownOptionError: If a name is not an option.
        UsageError: If a value is outside its range.
    """
    answers = options.get("answers")
    chosen = SimOptions().changed({name: value for name, value in options.items() if name != "answers"})
    said: dict[str, Any] = {
        name: getattr(chosen, name) for name in _ANSWERING if getattr(chosen, name) != getattr(SimOptions(), name)
    }
    if answers is not None:
        said["answers"] = _describe(answers, set())
    return hashlib.sha256(orjson.dumps(said)).hexdigest()[:16] if said else ""


def _describe(value: Any, seen: set[int]) -> Any:
    """Return a JSON description of a value, different for different values."""
    if isinstance(value, types.FunctionType):
        if id(value) in seen:
            return "again"
        seen.add(id(value))
        cells = [_cell(cell, seen) for cell in value.__closure__ or ()]
        names = sorted(_names(value.__code__))
        around = {name: _describe(value.__globals__[name], seen) for name in names if name in value.__globals__}
        defaults = [_describe(each, seen) for each in (value.__defaults__ or ())]
        keywords = {name: _describe(each, seen) for name, each in sorted((value.__kwdefaults__ or {}).items())}
        return [_code(value.__code__), cells, around, defaults, keywords]
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        plain = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)
    except TypeError:
        return [type(value).__qualname__, _NUMBERS.value.of(value)] if callable(value) else type(value).__qualname__
    return hashlib.sha256(plain).hexdigest() if len(plain) <= _MAX_BYTES else type(value).__qualname__


def _cell(cell: types.CellType, seen: set[int]) -> Any:
    try:
        return _describe(cell.cell_contents, seen)
    except ValueError:  # the cell is still empty
        return None


def _code(code: types.CodeType) -> list[Any]:
    return [code.co_code.hex(), list(map(_constant, code.co_consts)), list(code.co_names)]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _code(value)
    if isinstance(value, frozenset):  # its order differs between processes
        return sorted(map(repr, value))
    return repr(value)


def _names(code: types.CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))

"""One option as a dataclass field: its description, bounds and front ends, and everything derived from them.

    @dataclass(frozen=True)
    class Options:
        max_turns: int = option(8, "Maximum number of replies for one answer.", at_least=1)

`fields_of(Options)` reads the fields. Validation, environment variables, signatures, the command line and the
documentation are derived from its result.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pllm_notebook.exceptions import UnknownOptionError, UsageError, guess
from pllm_notebook.runtime import Slot

__all__ = [
    "OptionField",
    "check",
    "check_row_count",
    "check_with",
    "fields_of",
    "from_environment",
    "is_finite",
    "is_number",
    "is_unicode",
    "one_of",
    "option",
    "plain",
    "taken_by",
]

ABOVE_ZERO = "above zero"
"""An exclusive lower bound of 0."""

CHECKS: Slot[dict[str, Callable[[Any], None]]] = Slot("checks of settings", dict, is_kept=True)
"""Further checks of settings, added with `check_with` by the code that uses them."""

# A memo: its contents depend only on the class.
_known: dict[type[Any], dict[str, OptionField]] = {}

_INT64 = 2**63
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, eq=False)
class OptionField:
    """One option, as its dataclass field describes it.

    Attributes:
        owner: The dataclass.
        name: Its name as a keyword.
        default: The default value.
        accepts: The type that callers may pass, as source text.
        about: The arguments of `option`.
    """

    owner: type[Any]
    name: str
    default: Any
    accepts: str
    about: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Its description, including the unit: Markdown, one or two sentences."""
        return str(self.about["text"])

    @property
    def takes(self) -> frozenset[str]:
        """The front ends that take it."""
        return frozenset(self.about["takes"])

    @property
    def keyed(self) -> bool:
        """Whether it is part of the cache key."""
        return bool(self.about["keyed"])

    @property
    def read_with(self) -> str:
        """The option that it refines, without which it has no effect. "" for an independent option."""
        return str(self.about["read_with"])

    @cached_property
    def variable(self) -> str | None:
        """The name of its environment variable. None for an option that cannot be written as text."""
        return f"PLLM_{self.name.upper()}" if self.about["variable"] else None

    @cached_property
    def hint(self) -> Any:
        """Its resolved type."""
        hints = get_type_hints(self.owner)
        for each in fields_of(self.owner).values():  # for all fields: resolving one costs as much as resolving all
            vars(each).setdefault("hint", hints[each.name])
        return hints[self.name]

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types in its hint, without None. () for a choice."""
        if get_origin(self.hint) is Literal:
            return ()
        union = get_origin(self.hint) in (Union, UnionType)
        return tuple(kind for kind in (get_args(self.hint) if union else (self.hint,)) if kind is not type(None))

    @cached_property
    def choices(self) -> tuple[Any, ...]:
        """The strings that it accepts. () if it is not a choice."""
        return get_args(self.hint) if get_origin(self.hint) is Literal else tuple(self.about["choices"])

    @cached_property
    def takes_none(self) -> bool:
        """Whether None is one of its values."""
        return self.hint is Any or type(None) in get_args(self.hint)

    @property
    def is_list(self) -> bool:
        """Whether its text form is a comma-separated list."""
        return any(get_origin(kind) is tuple for kind in self.kinds)

    @cached_property
    def rule(self) -> tuple[str, Callable[[Any], bool]]:
        """A description of valid values for error messages, and a check of a value other than None."""
        return self.about["expects"] or _rule(self.kinds, self.choices, self.about["at_least"])


def option(
    default: Any,
    text: str,
    *,
    more: str = "",
    at_least: float | str | None = None,
    choices: tuple[str, ...] = (),
    expects: tuple[str, Callable[[Any], bool]] | None = None,
    accepts: str = "",
    variable: bool = True,
    takes: frozenset[str] = frozenset(),
    keyed: bool = False,
    read_with: str = "",
) -> Any:
    """Return a dataclass field that describes an option.

    Args:
        default: The default value. A dict is copied for each instance.
        text: Its description, with the unit and the meaning of None.
        more: Further sentences for the documentation only.
        at_least: Lower bound of a number. `ABOVE_ZERO` for an exclusive bound of 0.
        choices: The allowed strings, if the annotation is not a `Literal`.
        expects: Description and check of valid values, for rules that the annotation does not express.
        accepts: Type that callers may pass, if it differs from the annotation.
        variable: Whether the environment can set it.
        takes: The front ends that take it.
        keyed: Whether it is part of the cache key.
        read_with: Name of the option that it refines.
    """
    about = {
        "text": text,
        "more": more,
        "at_least": at_least,
        "choices": choices,
        "expects": expects,
        "accepts": accepts,
        "variable": variable,
        "takes": takes,
        "keyed": keyed,
        "read_with": read_with,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


def fields_of(kind: type[Any]) -> Mapping[str, OptionField]:
    """Return the options of a dataclass by name, in order. Fields without a description are not options."""
    if kind in _known:
        return _known[kind]
    found = {}
    for each in fields(kind):
        if about := each.metadata:
            default = each.default if each.default_factory is MISSING else each.default_factory()
            found[each.name] = OptionField(kind, each.name, default, about["accepts"] or str(each.type), about)
    _known[kind] = found  # only once complete: several threads may read it
    return found


def taken_by(kind: type[Any], front_end: str) -> dict[str, OptionField]:
    """Return the options that a front end takes."""
    return {name: each for name, each in fields_of(kind).items() if front_end in each.takes}


def check_with(name: str, check: Callable[[Any], None]) -> None:
    """Register a check of a setting's values, run before they take effect.

    Args:
        name: Name of the setting.
        check: Raises `UsageError` for an unusable value.
    """
    CHECKS.value[name] = check


def check(
    known: Mapping[str, OptionField],
    given: Mapping[str, Any],
    *,
    allow_none: bool = True,
    error: type[UsageError] = UsageError,
) -> None:
    """Check names and values.

    Args:
        known: The known options.
        given: Values by name.
        allow_none: Whether None is allowed for every option, rather than only for those whose type includes it.
        error: The exception raised for a value out of range.

    Raises:
        UnknownOptionError: For an unknown name. Nothing was sent.
        UsageError: For a value out of range. Nothing was sent.
    """
    for name, value in given.items():
        if name not in known:
            raise UnknownOptionError(name, known)
        _check(known[name], value, allow_none=allow_none, error=error)


def unread(given: Mapping[str, Any], options: Any) -> dict[str, str]:
    """Return the options of a call without effect: each refines another option that is not set, to which it is mapped.

    Args:
        given: The options of the call, all of them known.
        options: The resolved options.
    """
    known, found = fields_of(type(options)), {}
    for name, value in given.items():
        if value is None or not (other := known[name].read_with):
            continue
        asked = getattr(options, other)
        # Examples may be a frame, which has no truth value.
        if value != known[name].default and (asked is None or asked is False):
            found[name] = other
    return found


def refuse_unread(given: Mapping[str, Any], options: Any) -> None:
    """Refuse options of a call that would have no effect (see `unread`).

    Configured options are not checked, because they may apply to other calls.

    Raises:
        UsageError: For such an option that differs from its default. Nothing was sent.
    """
    for name, other in unread(given, options).items():
        raise UsageError(f"{name}= is read with {other}= alone, and there is none: give {other}=, or leave {name} "
                         f"out. Nothing was sent.")  # fmt: skip


def from_environment(known: Iterable[OptionField]) -> dict[str, Any]:
    """Return the options that the environment sets.

    Raises:
        UsageError: For a text that is not a valid value of its option. Nothing was sent.
    """
    found: dict[str, Any] = {}
    for each in known:
        text = os.environ.get(each.variable) if each.variable else None
        if text:
            found[each.name] = _from_text(each, text)
            _check(each, found[each.name], f"The environment variable {each.variable}: ")
    return found


def one_of(choices: tuple[Any, ...]) -> str:
    """Return choices as a phrase: `'a' or 'b'`, `one of 'a', 'b' or 'c'`."""
    *others, last = map(repr, choices)
    return f"{'one of ' if len(others) > 1 else ''}{', '.join(others)} or {last}"


def plain(text: str) -> str:
    """Return Markdown as plain text, with links replaced by their labels."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Return whether a value is a number other than a boolean or NaN."""
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and value == value


def check_row_count(rows: Any) -> None:
    """Check `rows=` of a call that processes rows in pieces.

    Raises:
        UsageError: If it is not an integer of at least 1. Nothing was sent.
    """
    if not is_number(rows, whole=True) or rows < 1:
        raise UsageError(f"rows is a whole number of at least 1, not {rows!r}. Nothing was sent.")


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8, that is, has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return is_number(value) and math.isfinite(value)


def _check(
    each: OptionField,
    value: Any,
    source: str = "",
    *,
    allow_none: bool = True,
    error: type[UsageError] = UsageError,
) -> None:
    if value is None and (allow_none or each.takes_none):
        return
    if isinstance(value, int) and not -_INT64 <= value < _INT64:  # neither a request nor our files can represent it
        raise error(f"{source}{each.name} is {value!r:.60}, which is beyond 64 bits. Nothing was sent.")
    for text in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(text, str) and not is_unicode(text):  # neither a request nor our files can represent it
            raise error(f"{source}{each.name} has half a surrogate pair: {text!r:.100}. Nothing was sent.")
    expected, fits = each.rule
    try:
        fitting = bool(fits(value))
    except Exception:  # an array or frame has no single truth value; a number has no items
        fitting = False
    if not fitting:
        meant = guess(value, each.choices) if isinstance(value, str) else ""
        raise error(f"{source}{each.name} is {expected}, not {_shown(value)}.{meant} Nothing was sent.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if "\n" not in text else f"a {type(value).__name__}"  # a frame, an array


def _from_text(each: OptionField, text: str) -> Any:
    kinds, word = each.kinds, text.strip().lower()
    if bool in kinds and (str not in kinds or word in _YES + _NO):
        return word in _YES if word in _YES + _NO else text
    try:
        if float in kinds:
            return float(text)
        if int in kinds:
            return int(text)
    except ValueError:
        raise UsageError(f"{each.variable} is {text!r}, which is not a number. Nothing was sent.") from None
    return tuple(text.split(",")) if each.is_list else text


def _rule(
    kinds: tuple[Any, ...], choices: tuple[Any, ...], at_least: float | str | None
) -> tuple[str, Callable[[Any], bool]]:
    """Return the description and check of a valid value, derived from the annotation."""
    if choices:
        return one_of(choices), lambda value: isinstance(value, Hashable) and value in choices
    if bool in kinds:
        return "True or False", lambda value: isinstance(value, bool)
    if int in kinds or float in kinds:
        whole = float not in kinds
        expected = "a whole number" if whole else "a number"
        if at_least == ABOVE_ZERO:
            return f"{expected} above 0", lambda value: is_number(value, whole=whole) and value > 0
        if at_least is None:
            return expected, lambda value: is_number(value, whole=whole)
        least = float(at_least)
        return f"{expected} of at least {least:g}", lambda value: is_number(value, whole=whole) and value >= least
    if any(get_origin(kind) is Mapping for kind in kinds):
        return "a mapping", lambda value: isinstance(value, Mapping)
    return "text", lambda value: isinstance(value, str)

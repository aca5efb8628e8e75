"""Every error of ours, as one tree.

    PllmError
     ├─ UsageError (also ValueError)      the call is wrong; nothing was sent
     │   ├─ UnknownColumnError            a prompt names a column the frame lacks
     │   ├─ NameClashError                a result would cover a column of the caller's
     │   ├─ UnknownOptionError            an unknown option
     │   ├─ UnknownModelError             a model or provider we cannot resolve
     │   ├─ UnsupportedSchemaError        a type that a provider cannot be asked for
     │   ├─ MissingKeyError               no API key where one is needed
     │   ├─ MissingPackageError           an extra that is not installed
     │   └─ FileError (also OSError)      a file that cannot be read or written
     ├─ NotConfirmedError                 a batch was to be submitted, and was not confirmed
     ├─ StoppedError                      the run ended early; what finished is kept
     │   ├─ ProviderRejectedError         key, model or quota: every row would fail alike
     │   ├─ BudgetError                   `max_cost_usd` would have been passed
     │   ├─ RowError                      `errors="raise"` met its first failure
     │   └─ RunInterrupted                Stop or interrupt, seen from an awaiting cell
     ├─ StoreError                        the cache cannot keep what was paid for
     │   └─ UnsafeEntryError              a stored row that we refuse to read
     └─ ParallelLLMError                  one request through `ParallelLLM` (in `request_errors`)
         ├─ ConfigurationError (also UsageError)     a setting outside its range; nothing was sent
         ├─ ProcessingError               every processor failed; each with its cause, one of those below
         ├─ DecisionMakerError (also UsageError)     the decision maker cannot be asked; nothing was sent
         ├─ LLMValidationError            an answer that does not fit the format; also a UsageError where the
         │                                request itself cannot be asked, and nothing was sent
         └─ APIError                      the provider did not answer
             ├─ LLMTimeoutError (also TimeoutError)  not in time
             ├─ RateLimitError            too many requests, or a quota
             ├─ AuthenticationError       no key, or one that is refused
             └─ ModelError                a model that is not there

A row's failure is not an exception but a value: see `failures.Failure`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any

__all__ = [
    "BudgetError",
    "FileError",
    "MissingKeyError",
    "MissingPackageError",
    "NameClashError",
    "NotConfirmedError",
    "PllmError",
    "ProviderRejectedError",
    "RowError",
    "RunInterrupted",
    "StoppedError",
    "StoreError",
    "UnknownColumnError",
    "UnknownModelError",
    "UnknownOptionError",
    "UnsafeEntryError",
    "UnsupportedSchemaError",
    "UsageError",
    "guess",
    "interrupted",
    "sentence",
    "show_in_one_line",
    "with_article",
]


class PllmError(Exception):
    """The root: `except PllmError` catches everything this package raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        # IPython prints what this returns in place of its own page of traceback:
        # the message already says what was seen, expected and sent.
        return [f"{type(self).__name__}: {self}"]

    def __reduce__(self) -> Any:
        # A constructor takes what the message is made of, so that the message itself would not fit it: a worker process
        # would die of the error that it sends back. A class made at run time is sent as the named one below it.
        cls = next(
            cls for cls in type(self).__mro__ if getattr(sys.modules.get(cls.__module__), cls.__name__, None) is cls
        )
        return _unpickled, (cls, self.args, self.__dict__)


def _unpickled(cls: type[PllmError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PllmError:
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(attributes)
    return error


class UsageError(PllmError, ValueError):
    """The call cannot be carried out as written. Nothing was sent."""


# A frame of hundreds of columns, or a wall of names, hides what the message is about.
_SHOWN_COLUMNS = 20
_SHOWN_OPTIONS = 20
_FEW = 6
_GUESSES = 5
# What other packages call an option, where the likeness of letters would suggest another one.
_ELSEWHERE = {
    "budget": "max_cost_usd",
    "max_workers": "concurrency",
    "n": "samples",
    "n_jobs": "concurrency",
    "provider": "model",
    "reasoning_effort": "effort",
    "rpm": "requests_per_min",
    "tpm": "tokens_per_min",
    "verbose": "progress",
}
# What is no option here, and where it is said instead.
_INSTEAD = {
    "api_key": "A key is read from the environment, such as OPENAI_API_KEY, or is that of a client in "
    "pllm.configure(clients={'name': AsyncOpenAI(api_key=…)}), whose models are 'name:model'.",
    "base_url": "An address is that of a server, pllm.configure(servers={'name': 'http://…/v1'}), whose models are "
    "'name:model'.",
    "messages": "The prompt is one text, in which {column} is the row's value; system= is the system prompt.",
    "stream": "Answers come whole; progress= says what is shown in the meantime.",
}


class UnknownColumnError(UsageError):
    """A prompt, or an option, names a column that the frame does not have.

    Attributes:
        column: The name that was not found.
        columns: The names that are there.
    """

    def __init__(
        self,
        column: str,
        columns: Iterable[object],
        named_by: str = "The prompt",
        *,
        there: str | None = "the frame",
        literal: str | None = None,
    ) -> None:
        self.column = column
        self.columns = list(columns)
        if there is None:
            found = f"{named_by} names {column!r}, and there is no variable of that name."
        else:
            shown = [*self.columns[:_SHOWN_COLUMNS], *(["…"] if len(self.columns) > _SHOWN_COLUMNS else [])]
            found = f"{named_by} names column {column!r}, but {there} has {shown!r}."
        meant = "" if literal is None else f" For the text {{{literal}}} itself, write {{{{{literal}}}}}."
        super().__init__(f"{found}{guess(column, self.columns)}{meant} Nothing was sent.")


class NameClashError(UsageError):
    """A result column has the name of a column that is already there.

    Attributes:
        columns: The names that clash.
    """

    def __init__(self, columns: Iterable[str], *, twice: bool = False, unread: bool = False) -> None:
        self.columns = list(columns)
        seen = "and two of them have one name" if twice else "and the frame already has columns of those names"
        kept = ", whose values are not, unchanged, the answers of an earlier run, and would be lost"
        if unread:
            seen, kept = "and the rows already have columns of those names", ", which would be lost"
        kept = "" if twice else f"{kept}; replace=True replaces them"
        super().__init__(
            f"The result has columns {self.columns!r}, {seen}{kept}. "
            f"Give prefix='llm_' (or another) to set the results apart. Nothing was sent."
        )


class UnknownOptionError(UsageError):
    """Unknown option.

    Attributes:
        option: The name that was given.
    """

    def __init__(self, option: str, known: Iterable[str]) -> None:
        self.option = option
        known = sorted(known)
        option = option if isinstance(option, str) else repr(option)
        meant = _ELSEWHERE.get(option)
        hint = f" Did you mean {meant!r}?" if meant in known else guess(option, known)
        if option in _INSTEAD and "model" in known:
            hint = f" {_INSTEAD[option]}"
        elif not hint:
            # Dozens of names hide what the message is about: of many, those that are most like it.
            shown = known if len(known) <= _SHOWN_OPTIONS else difflib.get_close_matches(option, known, _FEW, cutoff=0)
            hint = f" {'The options are' if shown == known else f'Of {len(known)} options, the nearest are'} "
            hint += f"{', '.join(shown)}."
        super().__init__(f"There is no option {option!r}.{hint} Nothing was sent.")


class UnknownModelError(UsageError):
    """A model or provider that cannot be resolved to an address."""


class UnsupportedSchemaError(UsageError):
    """A type that this provider's structured output cannot express.

    Attributes:
        field: Dotted path of the field, "" for the type as a whole.
        provider: The provider's name as the caller wrote it.
        reason: What is not supported, and what to write instead.
    """

    def __init__(self, field: str, provider: str, reason: str) -> None:
        self.field = field
        self.provider = provider
        self.reason = reason
        where = f"Field {field!r}" if field else "The type"
        super().__init__(f"{where} cannot be sent to {provider}: {reason} Nothing was sent.")


class MissingKeyError(UsageError):
    """A provider needs a key, and none is set.

    Attributes:
        provider: The provider's name.
        variable: The environment variable that would hold it.
        kept: Rows that have an answer in the cache, 0 where it was not looked up.
        total: Rows of the run, 0 where it was not looked up.
    """

    def __init__(self, provider: str, variable: str, *, kept: int = 0, total: int = 0) -> None:
        self.provider = provider
        self.variable = variable
        self.kept = kept
        self.total = total
        known = ""
        if kept:
            known = (
                f"{kept:,} of {total:,} rows are answered in the cache: cache='only' gives these without a key, and "
                f"missing values for the others. "
            )
        super().__init__(
            f"{provider} needs an API key, and the environment variable {variable} is not set. {known}"
            f"Set it and run this again, or name a model that needs none: 'local:smollm2' (in this process) "
            f"or 'sim:openai' (simulated answers). Nothing was sent."
        )


class MissingPackageError(UsageError):
    """A provider's package is not installed.

    Attributes:
        package: Its name for pip.
    """

    def __init__(self, provider: str, package: str, extra: str) -> None:
        self.package = package
        super().__init__(
            f"{provider} needs the package {package!r}, which is not installed. "
            f"Run: pip install 'pllm_notebook[{extra}]'. Nothing was sent."
        )


class FileError(UsageError, OSError):
    """A file that cannot be read or written.

    Attributes:
        errno: The system's number of what went wrong, None for none.
        path: As it was given.
    """

    def __init__(self, message: str, *, errno: int | None, path: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.path = path


class NotConfirmedError(PllmError):
    """A batch was to be submitted, and was not confirmed. Nothing was sent."""


class StoppedError(PllmError):
    """The run ended before every row had an outcome; what finished is kept.

    Attributes:
        kept: Rows that have an answer.
        total: Rows of the run.
    """

    def __init__(self, message: str, *, kept: int, total: int, run: str = "") -> None:
        self.kept = kept
        self.total = total
        self._summary = f"{sentence(message)} {kept:,} of {total:,} rows are answered and kept"
        super().__init__(f"{self._summary}. Run it again to continue.")
        if run:
            self.name_run(run)

    def name_run(self, run: str) -> None:
        """Name the run that has the answers: another kernel's may be newer than the one that was stopped."""
        self.args = (f"{self._summary}: pllm.run({run!r}).to_frame() shows them. Run the cell again to continue.",)


class ProviderRejectedError(StoppedError):
    """The provider refused in a way that every row would meet: key, model or quota.

    Attributes:
        kind: The failure's kind (see `failures.FailureKind`).
        status: The HTTP status.
    """

    def __init__(self, message: str, *, kind: str, status: int | None, kept: int, total: int) -> None:
        self.kind = kind
        self.status = status
        super().__init__(message, kept=kept, total=total)


class BudgetError(StoppedError):
    """`max_cost_usd` stopped the run before a call that could have passed it."""


class RowError(StoppedError):
    """A row failed and the run was asked to raise (`errors="raise"` or `mode="sync"`).

    Attributes:
        position: The row, counted from 0.
        kind: The failure's kind (see `failures.FailureKind`).
    """

    def __init__(self, message: str, *, position: int, kind: str, kept: int, total: int) -> None:
        self.position = position
        self.kind = kind
        super().__init__(message, kept=kept, total=total)


class RunInterrupted(StoppedError):
    """A run was stopped from outside while a cell was awaiting it.

    An exception of our own, since a swallowed cancellation would let the queued
    cells run on half a result.
    """


class StoreError(PllmError):
    """The cache cannot do what was asked; answers in memory are still there."""


class UnsafeEntryError(StoreError):
    """A stored row has a form that this package never writes; it was not read."""


def sentence(text: str) -> str:
    """Return *text* without blanks around it, and with a full stop where it has no end of its own."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":", "…", ")")) else f"{text}."


def with_article(noun: str) -> str:
    """Return *noun* with "a" or "an" before it, by its first letter."""
    return f"{'an' if noun[:1].lower() in ('a', 'e', 'i', 'o', 'u') else 'a'} {noun}"


def guess(word: object, known: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the nearest of *known*, or ""; a column may be named by what is no text."""
    names = [name for name in known if isinstance(name, str)]
    word = str(word)
    near = difflib.get_close_matches(word, names, n=_GUESSES)
    if not near:
        folded = {name.casefold(): name for name in names}
        near = [folded[name] for name in difflib.get_close_matches(word.casefold(), folded, n=_GUESSES)]
    if not near:
        return ""
    # Letters that changed places are the commonest slip, and difflib counts them as two: 'modle' is nearer to 'mode'.
    best = min(near, key=lambda name: (sorted(name) != sorted(word), near.index(name)))
    return f" Did you mean {best!r}?"


def interrupted(message: str) -> KeyboardInterrupt:
    """Return a KeyboardInterrupt that IPython shows as one line, since *message* says all there is to know.

    An interrupt cannot be a `PllmError`: no `except Exception` may swallow it. A subclass would show another name,
    and front ends know an interrupted cell by the name.
    """
    error = KeyboardInterrupt(message)
    show_in_one_line(error, message)
    return error


def show_in_one_line(error: BaseException, message: str) -> None:
    """Make IPython show an exception that is not ours as one line with *message*, in place of a page of traceback.

    For a cancellation too, which has to reach its task as the exception that it is. One that has a line keeps it.
    """
    line = f"{type(error).__name__}: {message}"
    error.__dict__.setdefault("_render_traceback_", lambda: [line])

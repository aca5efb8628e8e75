"""All exceptions of this package, as one tree.

    PllmError
     ├─ UsageError (also ValueError)      the call is invalid; nothing was sent
     │   ├─ UnknownColumnError            a prompt names a column the frame lacks
     │   ├─ NameClashError                a result would replace a column of the caller
     │   ├─ UnknownOptionError            an unknown option
     │   ├─ UnknownModelError             a model or provider that cannot be resolved
     │   ├─ UnsupportedSchemaError        a type that a provider does not support
     │   ├─ MissingKeyError               no API key where one is needed
     │   ├─ MissingPackageError           an extra that is not installed
     │   └─ FileError (also OSError)      a file that cannot be read or written
     ├─ NotConfirmedError                 the user did not confirm a submission; nothing was sent
     ├─ StoppedError                      the run ended early; finished answers are kept
     │   ├─ ProviderRejectedError         key, model or quota: every row would fail in the same way
     │   ├─ BudgetError                   `max_cost_usd` would have been exceeded
     │   ├─ RowError                      the first failure with `errors="raise"`
     │   └─ RunInterrupted                a stop or interrupt in an awaiting cell
     ├─ StoreError                        the cache cannot store or read answers
     │   └─ UnsafeEntryError              a stored entry that is refused as unsafe
     └─ ParallelLLMError                  one request through `ParallelLLM` (in `request_errors`)
         ├─ ConfigurationError (also UsageError)     a setting out of range; nothing was sent
         ├─ ProcessingError               every processor failed; each with its cause, one of those below
         ├─ DecisionMakerError (also UsageError)     the decision maker cannot be asked; nothing was sent
         ├─ LLMValidationError            an answer that does not fit the format; also a UsageError if the
         │                                request itself is invalid and nothing was sent
         └─ APIError                      the provider did not answer
             ├─ LLMTimeoutError (also TimeoutError)  no answer in time
             ├─ RateLimitError            too many requests, or a quota
             ├─ AuthenticationError       a missing or refused key
             └─ ModelError                a model that does not exist

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
    """The base class: `except PllmError` catches every exception that this package raises intentionally."""

    def _render_traceback_(self) -> list[str]:
        # IPython prints this instead of a long traceback: the message already states what was seen, expected and sent.
        return [f"{type(self).__name__}: {self}"]

    def __reduce__(self) -> Any:
        # Constructors take the parts of the message rather than the message, so default pickling would fail and kill a
        # worker process that sends the error back. A class built at run time is sent as its named base class.
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
    """The call is invalid. Nothing was sent."""


# A list of hundreds of columns would hide the point of the message.
_SHOWN_COLUMNS = 20
_SHOWN_OPTIONS = 20
_FEW = 6
_GUESSES = 5
# Names that other packages use for an option, if spelling similarity would suggest a different one.
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
# Common names that are not options here, and what to use instead.
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
        columns: The existing names.
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
    """A result column has the name of an existing column.

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
    """An option that does not exist.

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
            # Dozens of names would hide the point of the message: of many, show only the most similar.
            shown = known if len(known) <= _SHOWN_OPTIONS else difflib.get_close_matches(option, known, _FEW, cutoff=0)
            hint = f" {'The options are' if shown == known else f'Of {len(known)} options, the nearest are'} "
            hint += f"{', '.join(shown)}."
        super().__init__(f"There is no option {option!r}.{hint} Nothing was sent.")


class UnknownModelError(UsageError):
    """A model or provider that cannot be resolved to an address."""


class UnsupportedSchemaError(UsageError):
    """A type that this provider's structured output cannot express.

    Attributes:
        field: Dotted path of the field. "" for the whole type.
        provider: The provider's name as the caller wrote it.
        reason: The unsupported part, and what to write instead.
    """

    def __init__(self, field: str, provider: str, reason: str) -> None:
        self.field = field
        self.provider = provider
        self.reason = reason
        where = f"Field {field!r}" if field else "The type"
        super().__init__(f"{where} cannot be sent to {provider}: {reason} Nothing was sent.")


class MissingKeyError(UsageError):
    """A provider needs an API key, and none is set.

    Attributes:
        provider: The provider's name.
        variable: The environment variable for the key.
        kept: Rows with an answer in the cache. 0 if the cache was not checked.
        total: Rows of the run. 0 if the cache was not checked.
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
        errno: The system's error number. None for none.
        path: The path as given.
    """

    def __init__(self, message: str, *, errno: int | None, path: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.path = path


class NotConfirmedError(PllmError):
    """The user did not confirm a submission, such as that of a batch job. Nothing was sent."""


class StoppedError(PllmError):
    """The run ended before every row had an outcome. Finished answers are kept.

    Attributes:
        kept: Number of rows with an answer.
        total: Number of rows of the run.
    """

    def __init__(self, message: str, *, kept: int, total: int, run: str = "") -> None:
        self.kept = kept
        self.total = total
        self._summary = f"{sentence(message)} {kept:,} of {total:,} rows are answered and kept"
        super().__init__(f"{self._summary}. Run it again to continue.")
        if run:
            self.name_run(run)

    def name_run(self, run: str) -> None:
        """Name the run that has the answers in the message, since another kernel's run may be newer."""
        self.args = (f"{self._summary}: pllm.run({run!r}).to_frame() shows them. Run the cell again to continue.",)


class ProviderRejectedError(StoppedError):
    """The provider refused for a reason that affects every row: key, model or quota.

    Attributes:
        kind: The failure's kind (see `failures.FailureKind`).
        status: The HTTP status.
    """

    def __init__(self, message: str, *, kind: str, status: int | None, kept: int, total: int) -> None:
        self.kind = kind
        self.status = status
        super().__init__(message, kept=kept, total=total)


class BudgetError(StoppedError):
    """`max_cost_usd` stopped the run before a call that could have exceeded it."""


class RowError(StoppedError):
    """A row failed in a run that raises (`errors="raise"` or `mode="sync"`).

    Attributes:
        position: The row's position, from 0.
        kind: The failure's kind (see `failures.FailureKind`).
    """

    def __init__(self, message: str, *, position: int, kind: str, kept: int, total: int) -> None:
        self.position = position
        self.kind = kind
        super().__init__(message, kept=kept, total=total)


class RunInterrupted(StoppedError):
    """A run was stopped from outside while a cell was awaiting it.

    A separate exception, because a swallowed cancellation would let the queued
    cells run with a partial result.
    """


class StoreError(PllmError):
    """A cache operation failed. Answers in memory are kept."""


class UnsafeEntryError(StoreError):
    """A stored entry has a form that this package never writes. It was not read."""


def sentence(text: str) -> str:
    """Return *text* stripped, with a full stop unless it already ends a sentence."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":", "…", ")")) else f"{text}."


def with_article(noun: str) -> str:
    """Return *noun* with "a" or "an" before it, by its first letter."""
    return f"{'an' if noun[:1].lower() in ('a', 'e', 'i', 'o', 'u') else 'a'} {noun}"


def guess(word: object, known: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the nearest of *known*, or "". Names need not be strings."""
    names = [name for name in known if isinstance(name, str)]
    word = str(word)
    near = difflib.get_close_matches(word, names, n=_GUESSES)
    if not near:
        folded = {name.casefold(): name for name in names}
        near = [folded[name] for name in difflib.get_close_matches(word.casefold(), folded, n=_GUESSES)]
    if not near:
        return ""
    # Swapped letters are the most common typo, but difflib counts them as two errors and prefers 'mode' for 'modle'.
    best = min(near, key=lambda name: (sorted(name) != sorted(word), near.index(name)))
    return f" Did you mean {best!r}?"


def interrupted(message: str) -> KeyboardInterrupt:
    """Return a KeyboardInterrupt that IPython shows as one line with *message*.

    An interrupt cannot be a `PllmError`, because `except Exception` must not swallow it. A subclass would show another
    name, by which front ends recognize an interrupted cell.
    """
    error = KeyboardInterrupt(message)
    show_in_one_line(error, message)
    return error


def show_in_one_line(error: BaseException, message: str) -> None:
    """Make IPython show a foreign exception as one line with *message* instead of a traceback.

    Also for a cancellation, which must reach its task as the original exception. An existing line is kept.
    """
    line = f"{type(error).__name__}: {message}"
    error.__dict__.setdefault("_render_traceback_", lambda: [line])

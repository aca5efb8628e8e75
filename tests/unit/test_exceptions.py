"""Exceptions cross to other processes: with their class, their message and what they know."""

from __future__ import annotations

import pickle

import pytest

from pllm_notebook.exceptions import (
    BudgetError,
    MissingKeyError,
    NameClashError,
    PllmError,
    ProviderRejectedError,
    RowError,
    RunInterrupted,
    UnknownColumnError,
    UnknownOptionError,
    UnsupportedSchemaError,
    UsageError,
)
from pllm_notebook.request_errors import LLMTimeoutError, RateLimitError

ERRORS = [
    UsageError("Nothing was sent."),
    UnknownColumnError("reveiw", ["review", "stars"]),
    NameClashError(["a"]),
    UnknownOptionError("temprature", ["temperature"]),
    UnsupportedSchemaError("a.b", "openai", "It is a set."),
    MissingKeyError("openai", "OPENAI_API_KEY", kept=1, total=3),
    ProviderRejectedError("No.", kind="quota", status=402, kept=1, total=3),
    BudgetError("Stopped.", kept=1, total=3, run="abc"),
    RowError("Row 2 failed.", position=2, kind="schema", kept=2, total=3),
    RunInterrupted("Stopped.", kept=0, total=3),
    RateLimitError("Slow down.", 429, 3.0, kind="rate_limit"),
    LLMTimeoutError("Late.", None, None, kind="timeout"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: PllmError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert vars(again) == vars(error)


def test_an_error_of_a_class_made_at_run_time_is_one_of_the_named_class_below_it() -> None:
    made = type("UsageError", (UsageError, LookupError), {})

    again = pickle.loads(pickle.dumps(made("Nothing was sent.")))

    assert (type(again), str(again)) == (UsageError, "Nothing was sent.")

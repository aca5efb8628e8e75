"""Run the caller's own code (validators of types, and tools) in daemon threads, with a timeout.

Such code may block forever, or raise what would end a thread. Threads start as needed and are reused when idle, so
code that never returns occupies only its own thread, and a tool that starts another run gets further threads at every
level. A thread cannot be stopped from outside: it is left running, and its result is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.replies import ReplyParser, Step
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.runtime import Slot
from pllm_notebook.threads import DaemonThreads

__all__ = [
    "ABANDON_AFTER_S",
    "as_error",
    "read_each_with_timeout",
    "read_with_timeout",
    "run_with_timeout",
    "user_threads",
]

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS: Slot[DaemonThreads] = Slot("user threads", partial(DaemonThreads, "pllm-user"))

# A run that is stopped waits no longer than this for the caller's code.
ABANDON_AFTER_S = 2.0
# Number of threads that read replies one by one.
_MAX_PARALLEL = 16
_CHECK_INTERVAL_S = 0.1


def user_threads() -> DaemonThreads:
    """Return this process's threads for the caller's own code."""
    return _THREADS.value


def _never() -> bool:
    return False


def run_with_timeout(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    fallback: Callable[[Item, BaseException | None], Result],
    timeout_s: float,
    stopped: Callable[[], bool] = _never,
) -> list[Result]:
    """Do *work* for all *items* at once, or for each alone if that raises or takes too long. Blocks.

    Args:
        work: Returns a result for each of its items.
        items: In order.
        fallback: Returns the result of an item whose work failed, given the error, or None if it took too long.
        timeout_s: Seconds for all items at once, and again for each group that is done one by one.
        stopped: Returns whether the run is being stopped; work is then waited for at most `ABANDON_AFTER_S`.

    Returns:
        One result for each item, in order.
    """
    if not items:
        return []
    all_at_once = user_threads().submit(work, items)
    _wait([all_at_once], timeout_s, stopped)
    if all_at_once.done() and all_at_once.exception() is None:
        return all_at_once.result()
    if stopped() and not all_at_once.done():
        return [fallback(item, None) for item in items]
    return run_each_with_timeout(work, items, fallback, timeout_s, stopped)


def run_each_with_timeout(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    fallback: Callable[[Item, BaseException | None], Result],
    timeout_s: float,
    stopped: Callable[[], bool] = _never,
) -> list[Result]:
    """Do *work* for each item alone, some in parallel (arguments as for `run_with_timeout`). Blocks."""
    results: list[Result] = []
    for start in range(0, len(items), _MAX_PARALLEL):
        some = items[start : start + _MAX_PARALLEL]
        works = [user_threads().submit(work, [item]) for item in some]
        _wait(works, timeout_s, stopped)
        for item, one in zip(some, works, strict=True):
            error = one.exception() if one.done() else None
            results.append(one.result()[0] if one.done() and error is None else fallback(item, error))
    return results


def read_with_timeout(
    parser: ReplyParser, replies: Sequence[UnreadReply], stopped: Callable[[], bool] = _never
) -> list[Step]:
    """Read replies within the spec's `validator_timeout_s` (see `run_with_timeout`). Blocks."""
    unread, timeout_s = partial(_unread, parser.spec, stopped), parser.spec.options.validator_timeout_s
    return run_with_timeout(parser.read, replies, unread, timeout_s, stopped)


def read_each_with_timeout(parser: ReplyParser, replies: Sequence[UnreadReply]) -> list[Step]:
    """Read replies, each alone and within the spec's `validator_timeout_s`. Blocks.

    A reply that raises or takes too long fails only its own row.
    """
    unread = partial(_unread, parser.spec, _never)
    return run_each_with_timeout(parser.read, replies, unread, parser.spec.options.validator_timeout_s)


def _wait(works: Sequence[Future[Any]], timeout_s: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0 and wait(works, min(left, _CHECK_INTERVAL_S)).not_done:
        if stopped():
            until = min(until, time.monotonic() + ABANDON_AFTER_S)
            stopped = _never  # once is enough


def _unread(spec: CallSpec, stopped: Callable[[], bool], reply: UnreadReply, error: BaseException | None) -> Step:
    if error is not None:
        failure = Failure(FailureKind.SCHEMA, f"{type(error).__name__}: {error}")
    elif stopped():
        failure = Failure(FailureKind.CANCELLED, "The run was stopped before this answer was read; it is kept.")
    else:
        failure = Failure(
            FailureKind.SCHEMA,
            f"The type's validators did not return within validator_timeout_s={spec.options.validator_timeout_s:g} s. "
            f"The answer is kept: mend the validators and run the cell again; nothing is paid for twice.",
        )
    return Outcome(None, failure, reply.key, reply.paid, reply.cached, reply.entry)


def as_error(error: BaseException) -> Exception:
    """Return *error* as an `Exception`: a SystemExit in the caller's code must not end the process."""
    if isinstance(error, Exception):
        return error
    raised = PllmError(f"Code of yours that a run calls raised {type(error).__name__}: {error}")
    raised.__cause__ = error
    return raised

"""The caller's own code, types' validators and tools, runs in daemon threads and within a time.

It may block for good, or raise what would end a thread. Threads begin as they are needed and are reused when they are
idle, so what never returns holds its own thread and nothing else, and a tool that asks on has threads of its own at
every level. A thread cannot be ended from outside: it is left behind, and its result is dropped.
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

# A run that is stopped waits no longer than this for code of the caller's.
ABANDON_AFTER_S = 2.0
# Replies that are read one by one are read this many at once.
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
    """Do *work* for all *items* at once, and for one after the other where that raises or takes too long. Blocks.

    Args:
        work: Gives a result for each of the items it is given.
        items: In order.
        fallback: Gives the result of an item for which the work raised; None for one that took too long.
        timeout_s: For all items at once, and again for each.
        stopped: Whether the run is being stopped: what takes longer than `ABANDON_AFTER_S` is then not waited for.
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
    """Do *work* for each item alone, as `run_with_timeout` does in the end. Blocks."""
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
    """Read replies, each alone and within the time. Blocks.

    Whatever one of them raises, or takes, is that row's failure alone.
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
    """Return *error* as one that a caller may be shown: SystemExit of the caller's code must not end its process."""
    if isinstance(error, Exception):
        return error
    raised = PllmError(f"Code of yours that a run calls raised {type(error).__name__}: {error}")
    raised.__cause__ = error
    return raised

"""Read stored replies in a worker, with a timeout: each becomes an outcome, a follow-up call, or tool calls.

The user's validators run there. A validator that does not return delays only its own rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.replies import ReplyParser, Step
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.user_code import read_each_with_timeout
from pllm_notebook.failures import Failure, FailureKind

__all__ = ["ReplyReader"]

logger = logging.getLogger("pllm_notebook")


class ReplyReader:
    """Read the replies to one spec's calls. Used on the engine's loop alone; one group at a time."""

    def __init__(self, parser: ReplyParser, services: RunServices) -> None:
        self._parser = parser
        self._loop = services.engine.loop.loop
        self._workers = services.engine.workers
        self._work: asyncio.Future[list[Step]] | None = None
        # Whether a group took too long; later groups are then read one by one from the start.
        self._is_slow = False

    async def read(self, group: Sequence[UnreadReply]) -> list[Step] | None:
        """Return the step for each reply; None if the run stopped and no longer waits for them."""
        try:
            steps = await self._read(group)
        except asyncio.CancelledError:
            if _is_cancelling():
                raise
            return None
        except GeneratorExit:
            raise
        except BaseException as error:  # our bug or the interpreter's: rows must not wait forever
            logger.exception("Replies could not be read")
            failure = Failure(FailureKind.SCHEMA, f"{type(error).__name__}: {error}")
            steps = [Outcome(None, failure, r.key, r.paid, False, r.entry) for r in group]
        if self._parser.store is None:
            for reply, step in zip(group, steps, strict=True):
                if isinstance(step, Outcome):
                    step.entry = reply.entry
        return steps

    def abandon(self) -> None:
        """Stop waiting for the group that is being read. All of its replies are stored."""
        if self._work is not None:
            self._work.cancel()

    async def _read(self, group: Sequence[UnreadReply]) -> list[Step]:
        if not self._is_slow:
            work = self._start(self._parser.read, group)
            timer = self._loop.call_later(self._parser.spec.options.validator_timeout_s, self._time_out, work)
            try:
                return await work
            except asyncio.CancelledError:
                if _is_cancelling() or not self._is_slow:
                    raise
            except GeneratorExit:
                raise
            except BaseException:  # the interpreter's own error, or a thread that could not start
                if len(group) == 1:
                    raise
            finally:
                timer.cancel()
        return await self._start(partial(read_each_with_timeout, self._parser), group)

    def _start(
        self, read: Callable[[Sequence[UnreadReply]], list[Step]], group: Sequence[UnreadReply]
    ) -> asyncio.Future[list[Step]]:
        self._work = work = self._loop.run_in_executor(self._workers, read, group)
        return work

    def _time_out(self, work: asyncio.Future[list[Step]]) -> None:
        """Abandon a group in which a validator takes too long. Its replies are read again, one by one."""
        if not work.done():
            self._is_slow = True
            work.cancel()


def _is_cancelling() -> bool:
    """Return whether the current task is being cancelled, and not only the work that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

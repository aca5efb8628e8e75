"""Events of one run, sent to the user's listeners (`on_event`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from pllm_notebook.events import CallEnded, Event, EventListener, RunEnded, RunStarted
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Prompt
from pllm_notebook.pending_call import CallResult
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.runtime import ExitStage, Slot
from pllm_notebook.threads import DaemonThreads
from pllm_notebook.types import Progress

__all__ = ["RunEvents"]

logger = logging.getLogger("pllm_notebook")

# Maximum time at exit to deliver waiting events, since a listener may hang.
_AT_EXIT_S = 5.0


class RunEvents:
    """A display that sends events to listeners, in order, on a thread of this package.

    Args:
        run: The run's id.
        mode: The mode in the run's options.
        listeners: The listeners in the settings in force when the run began: one function or several.
    """

    def __init__(self, run: str, mode: str, listeners: EventListener | Sequence[EventListener]) -> None:
        self._run, self._mode = run, mode
        self._listeners = [listeners] if callable(listeners) else list(listeners)

    @property
    def stays(self) -> bool:
        """False: nothing stays in view, so warnings are still needed."""
        return False

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Send the start of the run, or of a retry."""
        self._send(
            RunStarted(run=self._run, at=time.time(), model=progress.model, rows=progress.total, mode=self._mode)
        )

    def update(self, progress: Progress) -> None:
        """Send nothing: counts are not events."""

    def call_ended(
        self, spec: CallSpec, result: CallResult, cost_usd: float | None, prompt: Callable[[], Prompt] | None
    ) -> None:
        """Send the end of a call.

        Args:
            spec: The spec of the call.
            result: Its reply or failure.
            cost_usd: Cost in US dollars, None for unknown.
            prompt: Builds its prompt; None for a follow-up call or a pack.
        """
        reply = result.result
        usage = None if isinstance(reply, Failure) else reply.usage
        self._send(
            CallEnded(
                run=self._run,
                at=time.time(),
                model=spec.target.label,
                served="" if isinstance(reply, Failure) else reply.model,
                latency_s=result.latency_s,
                requests=result.attempts,
                failure=str(reply.kind) if isinstance(reply, Failure) else None,
                finish="" if isinstance(reply, Failure) else str(reply.finish),
                input_tokens=None if usage is None else usage.input_tokens,
                output_tokens=None if usage is None else usage.output_tokens,
                cost_usd=cost_usd,
                request_id="" if isinstance(reply, Failure) else reply.request_id,
                batch=spec.options.mode == "batch",
                joined=result.joined is not None,
                prompt=None if prompt is None else partial(_text_of, prompt),
                answer="" if isinstance(reply, Failure) else reply.text,
            )
        )

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Send the end of the run."""
        self._send(
            RunEnded(
                run=self._run,
                at=time.time(),
                model=progress.model,
                state=progress.state,
                answered=progress.done,
                cached=progress.cached,
                failed=progress.failed,
                not_sent=progress.not_sent,
                cost_usd=progress.cost_usd,
            )
        )

    def _send(self, event: Event) -> None:
        try:
            _THREAD.value.submit(self._deliver, event)
        except RuntimeError:  # the process is ending
            logger.debug("An event came after the end: %s", type(event).__name__)

    def _deliver(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("on_event raised, and is called no more in this run")
                self._listeners.remove(listener)


def _text_of(prompt: Callable[[], Prompt]) -> str:
    return prompt_as_text(prompt())


def _finish(threads: DaemonThreads) -> None:
    """Wait for the delivery of all events. A listener that hangs is abandoned."""
    try:
        threads.submit(lambda: None).result(timeout=_AT_EXIT_S)
    except TimeoutError:
        logger.warning("on_event has not returned; the events after that are lost")


# One thread, so that events arrive in order. It is a daemon, so that a listener that hangs does not keep the process.
_THREAD: Slot[DaemonThreads] = Slot(
    "events", lambda: DaemonThreads("pllm-events", at_once=1, patience_s=3600.0), close=_finish, stage=ExitStage.WRITERS
)

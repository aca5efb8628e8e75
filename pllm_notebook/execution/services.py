"""Services that a run uses but does not own: the engine, the store, dispatchers, learned limits, batch jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import orjson

from pllm_notebook.engine import (
    Dispatcher,
    Endpoint,
    Engine,
    LearnedLimits,
    LimitDivision,
    Limiter,
    RunQueue,
    SendPolicy,
    UserRateLimit,
)
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.learned_limits import LimitCache, limits_name
from pllm_notebook.execution.run_claims import JobLookup
from pllm_notebook.failures import Failure
from pllm_notebook.protocols import CallSource, Store
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.redaction import redact
from pllm_notebook.settings import Options
from pllm_notebook.store import write_later
from pllm_notebook.types import JobProgress

__all__ = ["CallDispatcher", "RunServices", "attach", "user_rate_limit"]

logger = logging.getLogger("pllm_notebook")


class CallDispatcher(Protocol):
    """Sends a run's calls: the live dispatcher of its model, or the one that sends by batch job."""

    @property
    def replies(self) -> int:
        """Replies received, for any run."""

    def announce(self, queue: RunQueue) -> None:
        """Register a run that is being planned."""

    def attach(self, queue: RunQueue) -> None:
        """Start to pull a run's calls.

        Raises:
            UsageError: If the client cannot be opened (no key, no package). Nothing was sent.
        """

    def detach(self, queue: RunQueue) -> None:
        """Stop pulling a run's calls. Each of its unfinished calls ends as cancelled."""

    def wake(self) -> None:
        """Look for calls again soon: a run has new calls, or has no more to come."""

    def blocked_by(self, now: float) -> str:
        """Describe what holds calls back, "" for nothing."""

    def jobs_of(self, queue: RunQueue) -> tuple[JobProgress, ...]:
        """Return the batch jobs that a run waits for, or waited for when it was detached."""

    def submitted(self, queue: RunQueue) -> bool:
        """Return whether every call that a run handed over has been sent."""


def user_rate_limit(options: Options, *, rates: bool = True) -> tuple[UserRateLimit, ...]:
    """Return the user's own limits in *options*, empty for none.

    Args:
        options: As resolved.
        rates: Whether to include the rates; False if the spec has other rates instead (`CallSpec.ceiling`).
    """
    stated = (options.requests_per_min, options.tokens_per_min) if rates else (None, None)
    if options.concurrency is None and stated == (None, None):
        return ()
    return (UserRateLimit(*stated, options.concurrency),)


def attach(dispatcher: CallDispatcher, queue: RunQueue, label: str) -> None:
    """Let a dispatcher pull a run's calls to the model with this label.

    Raises:
        PllmError: If the client cannot be opened (no key, no package). Nothing was sent.
    """
    try:
        dispatcher.attach(queue)
        return
    except PllmError:
        raise
    except Exception as error:
        logger.debug("The client for %s could not be opened", label, exc_info=True)
        message = f"The client for {label} could not be opened: {type(error).__name__}: {error}. Nothing was sent."
    raise PllmError(redact(message))  # without a cause: the client's own error may quote a key


@dataclass(eq=False)
class RunServices:
    """The services of one run.

    Attributes:
        engine: The engine, with the loop and the worker threads.
        store: Where replies are kept, None for nowhere.
        limits_directory: Where learned limits are kept, None for nowhere.
        own_clients: Names of the caller's own clients. Only the SDK knows their accounts, so their limits are not kept.
        batch_dispatcher: Returns the dispatcher of a model that sends by batch job; None for a live run.
        jobs: Looks up calls that wait in batch jobs, None if there can be none.
        budget: The run's budget, if the caller shares one between runs; None for its own, from the options.
        refresh_since: For a run with cache="refresh": answers from this time on, in seconds since 1970, count as
            refreshed. None if the run wants only its own answers.
    """

    engine: Engine
    store: Store | None
    limits_directory: str | None = None
    own_clients: Collection[str] = ()
    batch_dispatcher: Callable[[ResolvedModel], CallDispatcher] | None = None
    jobs: JobLookup | None = None
    budget: RunBudget | None = None
    refresh_since: float | None = None
    # Keyed by the limits stated in the options, for `user_limits`.
    _user_limits: dict[tuple[object, ...], tuple[UserRateLimit, ...]] = field(default_factory=dict)

    def user_limits(self, spec: CallSpec) -> tuple[UserRateLimit, ...]:
        """Return the user's own limits on the calls of *spec*. Specs with the same limits share one object."""
        options, rates = spec.options, spec.ceiling is None
        stated = (options.concurrency, options.requests_per_min, options.tokens_per_min, rates)
        if stated not in self._user_limits:
            self._user_limits[stated] = user_rate_limit(options, rates=rates)
        return self._user_limits[stated] if spec.ceiling is None else (*self._user_limits[stated], spec.ceiling)

    def run_queue(self, source: CallSource, spec: CallSpec) -> RunQueue:
        """Return a queue of the calls of *spec*, which a dispatcher pulls from *source*."""
        options = spec.options
        policy = SendPolicy(
            max_retries=options.max_retries,
            timeout_s=options.timeout_s,
            concurrency=1 if options.mode == "sync" else None,
            hedge=options.hedge and options.mode != "batch",
            retry_bounds=spec.retry_bounds,
        )
        return RunQueue(source, policy, self.user_limits(spec))

    def dispatcher(self, target: ResolvedModel) -> CallDispatcher:
        """Return the dispatcher that sends the calls to a model. On the engine's loop."""
        if self.batch_dispatcher is not None:
            return self.batch_dispatcher(target)
        key, directory = target.dispatcher_key, self._limits_of(target)
        # The claims let the processes that use this cache count how many of them send.
        claims = None if self.store is None else self.store.claims

        def adapt(failure: Failure, content: bytes) -> bool:
            return target.adapt(failure, orjson.loads(content))

        def make(limiter: Limiter) -> Dispatcher:
            endpoint = Endpoint(target.label, target.path, target.open, target.read, adapt, target.wire.limits)
            dispatcher = Dispatcher(endpoint, limiter, self.engine.rng)
            if claims is not None:
                name = limits_name(key)
                count, stop = partial(claims.count_senders, name), partial(claims.stop_sending, name)
                dispatcher.division = LimitDivision(limiter, self.engine.workers, count, stop)
            return dispatcher

        def learned() -> LearnedLimits | None:
            return None if directory is None else LimitCache(directory).known(key)

        return self.engine.dispatcher(key, make, max_parallel=target.max_parallel, learned=learned)

    def keep_limits(self, learned: Sequence[tuple[ResolvedModel, CallDispatcher]]) -> None:
        """Store what dispatchers have learned about their models' limits, for the next kernel."""
        for target, dispatcher in learned:
            directory = self._limits_of(target)
            if directory is not None and isinstance(dispatcher, Dispatcher):
                limits = dispatcher.limiter.export()
                with suppress(RuntimeError):  # at the end of the process no thread can start
                    write_later(partial(_keep_limits, directory, target.dispatcher_key, limits), may_wait=False)

    def _limits_of(self, target: ResolvedModel) -> str | None:
        """Return the directory for a model's limits, None for none: limits of simulated models are only options."""
        return None if target.simulated or target.provider in self.own_clients else self.limits_directory


def _keep_limits(directory: str, dispatcher_key: tuple[str, str, str], learned: LearnedLimits) -> None:
    LimitCache(directory).keep(dispatcher_key, learned)

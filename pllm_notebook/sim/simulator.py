"""The simulator object used by tests, notebooks and the `sim:` models."""

from __future__ import annotations

import logging
import math
import threading
import traceback
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.runtime import ExitStage, Locked, Slot
from pllm_notebook.sim.answers import AnswerFunction, SimRequest, to_answer
from pllm_notebook.sim.process import Process
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.stats import SimStats

__all__ = ["Simulator", "shared"]

logger = logging.getLogger("pllm_notebook")

_PATHS = {
    "openai": "/openai/v1",
    "compatible": "/compatible/v1",
    "anthropic": "/anthropic",
    "google": "/google",
    "systemone": "/systemone/v1",
    "sglang": "/sglang/v1",
}
_ERRORS_KEPT = 100


class Simulator:
    """Simulated providers on loopback, in a separate process. All methods are thread-safe.

    The process starts when the `with` block is entered, on `start()`, or at the first use of an address. It
    ends at `close()`, at the end of the block, when the interpreter exits, or when this program dies.

    Args:
        options: Initial options; None for the defaults.
        answers: A function from `SimRequest` to an answer: text, a value, a Pydantic model or a `SimAnswer`.
            It runs in this process, with a thread for each concurrent request (up to 64). None for answers
            generated from seed, prompt and schema.
        **values: Single options (see `SimOptions`).
    """

    def __init__(
        self, options: SimOptions | None = None, *, answers: AnswerFunction | None = None, **values: Any
    ) -> None:
        self._options = (options or SimOptions()).changed(values)
        self._answers = answers
        self._answer_errors: list[str] = []
        self._process: Process | None = None
        self._lock = threading.RLock()
        self._starts = 0
        self._given: dict[str, Any] | None = None

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = f"http://127.0.0.1:{self._process.port}" if self._process else "not started"
        return f"<Simulator {where}>"

    @property
    def options(self) -> SimOptions:
        """The current options."""
        return self._options

    @property
    def url(self) -> str:
        """URL of the server, without a path."""
        return f"http://127.0.0.1:{self._running().port}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._running().pid

    def base_url(self, provider: str) -> str:
        """Return the base URL for the SDK of "openai", "anthropic" or "google".

        "compatible" is an OpenAI-compatible server with the levels of structured output in the option `rungs`;
        "systemone" and "sglang" are servers with a decision endpoint of that format, and chat.
        """
        if provider not in _PATHS:
            raise UsageError(f"sim: a provider is one of {', '.join(map(repr, _PATHS))}, not {provider!r}.")
        return self.url + _PATHS[provider]

    def start(self) -> Simulator:
        """Start the process unless it is running, and wait until it listens."""
        self._running()
        return self

    def close(self) -> None:
        """End the process. Requests in flight lose their connection."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()

    def set(self, **values: Any) -> None:
        """Change options (or `answers`) from the next request on. If a limit changes, all limits start full.

        Options that are a number of batch jobs start counting again when they are set.

        Raises:
            UnknownOptionError: If a name is not an option. Nothing is changed.
            UsageError: If a value is outside its range. Nothing is changed.
        """
        with self._lock:
            answers = values.pop("answers", self._answers)
            options = self._options.changed(values)
            self._options, self._answers = options, answers
            if self._process is not None:
                self._process.call("set", options=options.as_json(), scripted=answers is not None, named=list(values))

    def reset(self) -> None:
        """Reset counts, limits, attempts, kept requests, files and batch jobs. Options are kept."""
        with self._lock:
            self._answer_errors.clear()
            if self._process is not None:
                self._process.call("reset")

    def advance(self, seconds: float) -> None:
        """Advance the clock of batch jobs by *seconds*, without waiting.

        Limits and latencies use the real clock. `reset` also resets this clock.

        Raises:
            UsageError: If *seconds* is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise UsageError(f"sim: a clock is moved forward by seconds, not by {seconds!r}.")
        with self._lock:
            self._running().call("advance", seconds=seconds)

    def stats(self) -> SimStats:
        """Return the counts since the start or the last `reset`."""
        with self._lock:
            counted = self._process.call("stats") if self._process is not None else {}
            charged = {model: tuple(tokens) for model, tokens in counted.pop("charged", {}).items()}
            return SimStats(**counted, charged=charged, answer_errors=tuple(self._answer_errors), starts=self._starts)

    def requests(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the last requests, oldest first: provider, path, headers (keys redacted) and body.

        At most `keep_requests` (an option) are kept.
        """
        with self._lock:
            kept: list[dict[str, Any]] = self._process.call("requests", limit=limit) if self._process else []
        return kept

    def _running(self) -> Process:
        with self._lock:
            if self._process is None or not self._process.running:
                if self._process is not None:
                    self._process.close()
                self._process = Process(self._ask)
                options = self._options.as_json()
                self._process.call("set", options=options, scripted=self._answers is not None, named=list(options))
                self._starts += 1
                _SIMULATORS.value.alive.add(self)
            return self._process

    def _ask(self, given: dict[str, Any]) -> dict[str, Any]:
        given["messages"] = tuple(tuple(turn) for turn in given["messages"])
        given["tools"] = tuple(given["tools"])
        given["results"] = tuple(tuple(result) for result in given["results"])
        request = SimRequest(**given)
        answers = self._answers
        try:
            if answers is None:
                return {"answer": None}
            answer = to_answer(answers(request), request.schema)
            # Serialize here, not on the channel: a value that is not JSON is an error of the function.
            return {"answer": orjson.loads(orjson.dumps(answer, default=str))}
        except BaseException as error:  # Any exception of the function is passed on as an answer.
            message = f"{type(error).__name__}: {error}"
            if message not in self._answer_errors:
                # Logged here, because only this process has the traceback.
                logger.error("The simulator's answers function raised", exc_info=error)
            del self._answer_errors[: -_ERRORS_KEPT + 1]
            self._answer_errors.append(message)
            return {"error": f"{message}{_place_of(error)}"}

    def _forget(self) -> None:
        # In a forked child: the locks may be held by threads that do not exist in it.
        self._lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            process.forget()


def _place_of(error: BaseException) -> str:
    """Return the place where an `answers` function raised *error*, "" if the error was raised elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) < 2 or frames[-1].filename.startswith(str(Path(__file__).parent)):
        return ""
    last = frames[-1]
    return f' (File "{last.filename}", line {last.lineno}, in {last.name}: {last.line})'


def shared(options: Mapping[str, Any]) -> Simulator:
    """Return the process-wide simulator of the `sim:` models, started, with *options* applied.

    Args:
        options: As for `Simulator`. Missing options have their defaults. If they differ from the current ones, the
            running server is updated in place.
    """
    simulators = _SIMULATORS.value
    with simulators.lock:
        shared = simulators.shared = simulators.shared or Simulator()
        answers = options.get("answers")
        wanted = SimOptions().changed({name: value for name, value in options.items() if name != "answers"})
        if wanted != shared.options or answers is not shared._answers:
            shared.set(**wanted.as_json(), answers=answers)
        return shared.start()


class _Simulators(Locked):
    """The simulators started by this process, and the shared one of the `sim:` models, None before its first use."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[Simulator] = weakref.WeakSet()
        self.shared: Simulator | None = None

    def close(self) -> None:
        for simulator in list(self.alive):
            simulator.close()

    def reset_after_fork(self) -> None:
        """Release the parent's simulators without ending them."""
        super().reset_after_fork()
        self.shared = None
        for simulator in list(self.alive):
            simulator._forget()


# Kept by a reset: the code that started a simulator closes it. Closed at exit, when that code no longer runs.
_SIMULATORS: Slot[_Simulators] = Slot(
    "simulators", _Simulators, close=_Simulators.close, stage=ExitStage.SERVERS, is_kept=True
)

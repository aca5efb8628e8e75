"""The handle: a simulator that a test, a notebook or `sim:` holds."""

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
    """Simulated providers on loopback, in a process of their own. Every method is thread-safe.

    The process starts on entering, on `start()` or when an address is first asked for, and ends with
    `close()`, with the block, with this interpreter, or when this program dies.

    Args:
        options: Where to begin; None for the defaults.
        answers: A function from `SimRequest` to what is answered: text, a value, a Pydantic model or a
            `SimAnswer`. It runs in this process, on a thread of its own for each request at work (up to 64).
            None for answers made from seed, prompt and schema.
        **values: Single options, see `SimOptions`.
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
        """The options in force."""
        return self._options

    @property
    def url(self) -> str:
        """The server's address, without any path."""
        return f"http://127.0.0.1:{self._running().port}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._running().pid

    def base_url(self, provider: str) -> str:
        """Return what the SDK of "openai", "anthropic" or "google" takes as its base address.

        "compatible" is an OpenAI-compatible server, with the rungs of structured output that the options say;
        "systemone" and "sglang" are servers with a decision endpoint of that format, and chat.
        """
        if provider not in _PATHS:
            raise UsageError(f"sim: a provider is one of {', '.join(map(repr, _PATHS))}, not {provider!r}.")
        return self.url + _PATHS[provider]

    def start(self) -> Simulator:
        """Start the process if it is not running, and wait until it listens."""
        self._running()
        return self

    def close(self) -> None:
        """End the process. Requests in flight lose their connection."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()

    def set(self, **values: Any) -> None:
        """Change options (or `answers`) from the next request on; limits that changed start full.

        Options that say how many of the next batch jobs they strike begin to count again when they are named.

        Raises:
            UnknownOptionError: For a name that is no option; nothing is changed then.
            UsageError: For a value outside its range; nothing is changed then.
        """
        with self._lock:
            answers = values.pop("answers", self._answers)
            options = self._options.changed(values)
            self._options, self._answers = options, answers
            if self._process is not None:
                self._process.call("set", options=options.as_json(), scripted=answers is not None, named=list(values))

    def reset(self) -> None:
        """Begin again: counts, buckets, tries, kept requests, files and batch jobs. Options stay."""
        with self._lock:
            self._answer_errors.clear()
            if self._process is not None:
                self._process.call("reset")

    def advance(self, seconds: float) -> None:
        """Move the clock of batch jobs forward: what falls due in *seconds* is due now. Nothing waits.

        Limits and latencies go by the real clock. `reset` puts this one right again.

        Raises:
            UsageError: For a negative number; clocks do not run backwards.
        """
        if not 0 <= seconds < math.inf:
            raise UsageError(f"sim: a clock is moved forward by seconds, not by {seconds!r}.")
        with self._lock:
            self._running().call("advance", seconds=seconds)

    def stats(self) -> SimStats:
        """Count what happened since the start or the last `reset`."""
        with self._lock:
            counted = self._process.call("stats") if self._process is not None else {}
            charged = {model: tuple(tokens) for model, tokens in counted.pop("charged", {}).items()}
            return SimStats(**counted, charged=charged, answer_errors=tuple(self._answer_errors), starts=self._starts)

    def requests(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the last requests, oldest first: provider, path, headers (keys redacted) and body.

        No more than the option `keep_requests` are kept.
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
            # Here, not on the channel: what JSON cannot carry is the function's error.
            return {"answer": orjson.loads(orjson.dumps(answer, default=str))}
        except BaseException as error:  # Whatever the function raises is an answer.
            message = f"{type(error).__name__}: {error}"
            if message not in self._answer_errors:
                # Here and not in the server: this process has the traceback.
                logger.error("The simulator's answers function raised", exc_info=error)
            del self._answer_errors[: -_ERRORS_KEPT + 1]
            self._answer_errors.append(message)
            return {"error": f"{message}{_place_of(error)}"}

    def _forget(self) -> None:
        # In a forked child: the locks may be held by threads that do not exist here.
        self._lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            process.forget()


def _place_of(error: BaseException) -> str:
    """Describe where an `answers` function raised, "" where it was not the function itself."""
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) < 2 or frames[-1].filename.startswith(str(Path(__file__).parent)):
        return ""
    last = frames[-1]
    return f' (File "{last.filename}", line {last.lineno}, in {last.name}: {last.line})'


def shared(options: Mapping[str, Any]) -> Simulator:
    """Return this process's one simulator of the `sim:` models, started, with *options* in force.

    Args:
        options: As for `Simulator`; what is not named has its default. The running server changes in
            place where they differ from the last ones.
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
    """The simulators that this process has started, and the one of the `sim:` models, None before its first use."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[Simulator] = weakref.WeakSet()
        self.shared: Simulator | None = None

    def close(self) -> None:
        for simulator in list(self.alive):
            simulator.close()

    def reset_after_fork(self) -> None:
        """Leave the parent's simulators to it."""
        super().reset_after_fork()
        self.shared = None
        for simulator in list(self.alive):
            simulator._forget()


# Kept, since the code that started a simulator closes it. At exit there is no such code any more.
_SIMULATORS: Slot[_Simulators] = Slot(
    "simulators", _Simulators, close=_Simulators.close, stage=ExitStage.SERVERS, is_kept=True
)

"""Scripted answers that replace those of every model."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import Transport, TransportFault
from pllm_notebook.providers import ResolvedModel, transports_replaced
from pllm_notebook.sim import SimAnswer, SimRequest, Unanswerable, answers_in, read_request, respond
from pllm_notebook.testing.isolation import throwaway_settings
from pllm_notebook.testing.recording import Recording, UnscriptedPromptError, excerpt, unscripted_error
from pllm_notebook.types import RawReply

__all__ = ["Answers", "Fake", "fake"]

Answers = Callable[[SimRequest], Any] | Mapping[str, Any] | str | os.PathLike[str]


class Fake:
    """The requests inside a `fake` block.

    Attributes:
        requests: Each request, in the order of arrival: `.prompt`, `.system`, `.model`, `.schema`, `.tools`, `.body`.
    """

    def __init__(self, answers: Callable[[SimRequest], Any]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._asked = 0
        self.requests: list[SimRequest] = []
        self._unscripted: list[str] = []
        self._errors: list[BaseException] = []

    @property
    def prompts(self) -> list[str]:
        """The last user text of each request, in the order of arrival."""
        return [request.prompt for request in self.requests]

    def __repr__(self) -> str:
        return f"<Fake: {len(self.requests):,} requests>"

    def _answer(self, request: SimRequest) -> Any:
        with self._lock:
            self.requests.append(request)
        try:
            return self._answers(request)
        except UnscriptedPromptError as error:
            self._unscripted.append(request.prompt)
            return SimAnswer.status(412, body={"error": {"message": str(error), "type": "unscripted"}})
        except Exception as error:
            self._errors.append(error)
            message = f"The answers function raised {type(error).__name__}: {error}"
            return SimAnswer.status(412, body={"error": {"message": message, "type": "answers"}})

    def note(self, model: ResolvedModel, content: bytes) -> None:
        """Record a request that the recording answers."""
        with suppress(Exception):  # a recorded request may have fields that the readers do not support
            request = read_request(model.wire.format_name, _is_compatible(model), model.model, content, self._next())
            self.requests.append(request)

    def respond(self, model: ResolvedModel, content: bytes) -> RawReply:
        """Answer one request in its model's format."""
        if not answers_in(model.wire.format_name):
            message = (
                f"{model.label} has a format of its own, in which no answers can be scripted. Record its answers with "
                f"pllm.testing.record, and replay the recording. Nothing was sent."
            )
            self._errors.append(UsageError(message))
            raise TransportFault(FailureKind.BAD_REQUEST, message)
        compatible, index = _is_compatible(model), self._next()
        try:
            response = respond(model.wire.format_name, compatible, model.model, content, self._answer, index)
        except Unanswerable as error:
            self._errors.append(UsageError(str(error)))
            raise TransportFault(FailureKind.BAD_REQUEST, str(error)) from None
        if response is None:
            raise TransportFault(FailureKind.CONNECTION, "The connection was lost, as scripted.")
        return RawReply(*response)

    def _next(self) -> int:
        with self._lock:
            index, self._asked = self._asked, self._asked + 1
        return index

    @contextmanager
    def problems_noted(self) -> Iterator[None]:
        """Add a note on exceptions of the answers function to an error that leaves the block: they often caused it."""
        try:
            yield
        except Exception as error:
            for raised in self._errors[:1]:
                error.add_note(f"The answers function raised {type(raised).__name__}: {raised}")
            if self._unscripted:
                error.add_note(str(unscripted_error("No answer is scripted for", self._unscripted)))
            raise

    def raise_problems(self) -> None:
        """Raise the first exception of the answers function, or an error for prompts without an answer, if any."""
        if self._errors:
            raise self._errors[0]
        if self._unscripted:
            raise unscripted_error("No answer is scripted for", self._unscripted)


@contextmanager
def fake(answers: Answers, *, network: bool = False) -> Iterator[Fake]:
    r"""Answer every model's calls from *answers* inside the block. Nothing is sent, and no key is needed.

    The models keep their names, formats and prices, so the pipeline runs as usual. Answers go to a temporary cache that
    is deleted after the block, and settings made with `configure` inside it are restored. A call without a model uses
    `openai:gpt-6-luna`. Only one block can be active at a time, for all threads of the process.

    Args:
        answers: A function from `Request` to an answer, a mapping from prompt texts to answers, or the path of a
            recording (see `record`). An answer is text, a value, a Pydantic model, or an `Answer`
            (`Answer.refusal()`, `Answer.status(500)` …).
        network: Whether this process may connect to other machines inside the block.

    Yields:
        The requests: `.requests`, `.prompts`.

    Raises:
        UnscriptedPromptError: At the end of the block, if a prompt had no answer and its row failed. The error
            shows the prompts.
        Exception: Any exception of your function, at the end of the block.

    Example:
        >>> import pandas as pd
        >>> import pllm_notebook as pllm
        >>> with pllm.testing.fake({"Is tea good?": True, "Is mud good?": False}) as asked:
        ...     out = pd.DataFrame({"text": ["tea", "mud"]}).llm.parse(bool, "Is {text} good?")
        >>> out["answer"].tolist(), len(asked.requests)
        ([True, False], 2)
    """
    if not isinstance(network, bool):
        raise UsageError(f"network is True or False, not {network!r}.")
    if isinstance(answers, (str, os.PathLike)):
        recording = Recording(answers, must_exist=True)
        scripted = Fake(_unscripted)
        with (
            throwaway_settings(network=network),
            transports_replaced(lambda model: _Replayed(scripted, model, recording), keyless=True),
            scripted.problems_noted(),
        ):
            yield scripted
    else:
        scripted = Fake(_function(answers))
        with (
            throwaway_settings(network=network),
            transports_replaced(lambda model: _Scripted(scripted, model), keyless=True),
            scripted.problems_noted(),
        ):
            yield scripted
    scripted.raise_problems()


class _Scripted(Transport):
    """A transport answered by a function, which runs in a thread, never on the engine's loop."""

    def __init__(self, scripted: Fake, model: ResolvedModel) -> None:
        self._scripted = scripted
        self._model = model

    async def post(self, path: str, content: bytes) -> RawReply:
        return await asyncio.to_thread(self._scripted.respond, self._model, content)

    async def aclose(self) -> None:
        pass


class _Replayed(_Scripted):
    """A transport answered by a recording."""

    def __init__(self, scripted: Fake, model: ResolvedModel, recording: Recording) -> None:
        super().__init__(scripted, model)
        self._recording = recording

    async def post(self, path: str, content: bytes) -> RawReply:
        found = self._recording.find(self._model, content)
        if found is None:
            return await super().post(path, content)
        self._scripted.note(self._model, content)
        return found


def _function(answers: Answers) -> Callable[[SimRequest], Any]:
    if isinstance(answers, Mapping):
        given = dict(answers)

        def look_up(request: SimRequest) -> Any:
            if request.prompt not in given:
                return _unscripted(request)
            return given[request.prompt]

        return look_up
    if not callable(answers):
        raise UsageError(
            f"answers is a function, a mapping from prompts to answers, or the path of a recording, not "
            f"{type(answers).__name__}."
        )
    return answers


def _unscripted(request: SimRequest) -> Any:
    raise UnscriptedPromptError(f"No answer is scripted for the prompt {excerpt(request.prompt)}")


def _is_compatible(model: ResolvedModel) -> bool:
    return model.provider != model.api.name

"""The reply to a call: a handle that waits for the answer when the program needs its value."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Turn
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.live_sessions import live_session
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.session_store import AnswerRecord, Failed, Present, Retrieved, SessionStore
from pllm_notebook.tools import Called, CalledTool
from pllm_notebook.types import Usage

__all__ = ["Answering", "LazyReply"]

# Time for other tasks of an awaiting program to make their calls before all are submitted as one batch.
_GATHER_S = 0.02


class Answering(Protocol):
    """The part of a session that its replies use."""

    @property
    def is_open(self) -> bool:
        """Whether the session's block has not ended."""

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""

    def submit(self, session_call: SessionCall) -> None:
        """Send or collect a call, as the strategy decides."""

    def wait_for_answer(self, session_call: SessionCall) -> AnswerRecord:
        """Block until a call is answered, and return the answer."""


class LazyReply(LLMResponse):
    """A lazy reply, created by `ask_llm`.

    Each of `resolve`, `resolve_json`, `resolve_parsed` and `resolve_tool_calls` waits for the answer, as the session's
    strategy defines it; `await reply` returns what `resolve` returns. A pickled reply contains only its call and
    directory. After unpickling, it reads the answer from that directory.
    """

    def __init__(
        self,
        session_store: SessionStore,
        call: Call,
        session_call: SessionCall | None = None,
        answering: Answering | None = None,
    ) -> None:
        super().__init__()
        self.call = call
        self._session_store = session_store
        # Both are None for a reply that was unpickled while no session was open in its directory.
        self._session_call = session_call
        self._session = answering
        self._answer: AnswerRecord | None = None

    def __repr__(self) -> str:
        # Never the text: showing a reply must not wait for it.
        who = f"{self.call.agent}, call {self.call.number}" if self.call.agent else "a call"
        return f"<Reply to {who}: {self.stage}>"

    def __str__(self) -> str:
        return repr(self)

    def __reduce__(self) -> tuple[Any, tuple[str, Call]]:
        return _revived, (self._session_store.directory, self.call)

    @property
    def session_call(self) -> SessionCall | None:
        """The state of its call in the session, None for an unpickled reply whose session is not open."""
        return self._session_call

    @property
    def question(self) -> SessionCall | None:
        """Former name of `session_call`, to be removed in the next release."""
        return self._session_call

    @property
    def key(self) -> str:
        """The call's key in the store, base64url."""
        return self._session_store.key(self.call) if self._session_call is None else self._session_call.key

    @property
    def stage(self) -> str:
        """The state of the call: "asked", "cached", "sent", "stored", "pending" or "failed". Does not wait.

        For an unpickled reply whose session is not open: "cached", "pending", "failed" or "absent".
        """
        if self._session_call is not None:
            return self._session_call.stage
        found = self._session_store.retrieve(self.call)
        return "cached" if isinstance(found, Present) else type(found).__name__.lower()

    @property
    def error(self) -> ErrorResponse | None:
        """The reason why there is no answer, None if there is one. Waits for the call to end."""
        try:
            self._get()
        except ErrorResponse as error:
            return error
        return None

    @property
    def usage(self) -> Usage | None:
        """Tokens of all replies that led to the answer, None if a provider did not report them. Waits for it."""
        return self._get().usage

    @property
    def cost_usd(self) -> float | None:
        """Cost of the answer when it was paid, in US dollars, None if unknown. Waits for it."""
        return self._get().cost_usd

    def ask(self) -> None:
        """Submit the call to its session. Called once, by `Agent.ask_llm`."""
        if self._session is not None and self._session_call is not None:
            self._session.submit(self._session_call)

    def retrieve(self) -> Retrieved:
        """Look up the call: present, pending, failed or absent. Sends nothing."""
        return self._session_store.retrieve(self.call) if self._session_call is None else self._session_call.retrieve()

    def resolve(self) -> str:
        """Wait, and return the answer's text.

        Raises:
            ErrorResponse: If the call has failed.
            KeyboardInterrupt: After an interrupt, which stops everything that the session has in flight.
        """
        return self._get().text

    def resolve_parsed(self) -> Any:
        """Wait, and return the answer as an instance of `response_format`.

        Raises:
            ErrorResponse: If the call has failed.
            UsageError: If no `response_format` was given, or the model called tools.
        """
        if self.call.text_format is None:
            raise UsageError("The call has no type to parse into: ask with response_format=, or use resolve_json().")
        value = self._get().value
        if isinstance(value, Called):
            names = ", ".join(call.name for call in value.calls)
            raise UsageError(f"The model called tools ({names}) instead of answering: use resolve_tool_calls().")
        return value

    def resolve_tool_calls(self) -> list[CalledTool]:
        """Wait, and return the tool calls that the model made, with validated arguments; an empty list for none.

        With `run_tools=True` the tools have been run already, and the list is empty.

        Raises:
            ErrorResponse: If the call has failed.
            UsageError: If no `tools` were given.
        """
        if not self.call.tools:
            raise UsageError("The call has no tools: ask with tools=.")
        value = self._get().value
        return list(value.calls) if isinstance(value, Called) else []

    def resolve_function_calls(self) -> list[CalledTool]:
        return self.resolve_tool_calls() if self.call.tools else []

    def to_assistant_message(self) -> Turn:
        """Wait, and return the answer as a turn for a further call.

        Raises:
            ErrorResponse: If the call has failed.
        """
        answer = self._get()
        return Turn("assistant", answer.text, calls=answer.calls, echo=answer.echo)

    async def _wait_here(self) -> str:
        session_call, session = self._session_call, self._session
        if session_call is not None and session is not None and not session_call.done.is_set():
            if not session_call.submitted and session.is_open:
                self.ask()  # unpickled: this run of the program has not made the call
            if session.gathers:
                await asyncio.sleep(_GATHER_S)
            elif session_call.submitted and session_call.stage != "pending":
                await session_call.ended()
        return self.resolve()

    def _get(self) -> AnswerRecord:
        if self._answer is None:
            session, session_call = self._session, self._session_call
            if session is None or session_call is None or not (session.is_open or session_call.done.is_set()):
                self._answer = self._stored_answer()
            else:
                self._answer = session.wait_for_answer(session_call)
        return self._answer

    def _stored_answer(self) -> AnswerRecord:
        found = self._session_store.retrieve(self.call)
        if isinstance(found, Present):
            return found.answer
        if isinstance(found, Failed):
            raise found.error
        raise UsageError(
            f"The answer is not in {self._session_store.directory} ({type(found).__name__.lower()}). Run the program "
            "that makes the call. Nothing was sent."
        )


def _revived(directory: str, call: Call) -> LLMResponse:
    session = live_session(directory)
    return LazyReply(SessionStore(directory), call) if session is None else session.reply_to(call)

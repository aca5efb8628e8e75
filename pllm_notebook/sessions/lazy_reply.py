"""What a program holds of a call: a reply that may not be there yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Turn
from pllm_notebook.records import Usage
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.sessions.session_store import AnswerRecord, Failed, Present, Retrieved, SessionStore
from pllm_notebook.tools import Called, CalledTool

if TYPE_CHECKING:
    from pllm_notebook.sessions.session import Session
    from pllm_notebook.sessions.session_call import SessionCall

__all__ = ["LazyReply"]

# What other tasks of an awaiting program may take to ask their own calls, before all are sent by batch.
_GATHER_S = 0.02


class LazyReply(LLMResponse):
    """A lazy reply. Made by `ask_llm`.

    Each of `resolve`, `resolve_json`, `resolve_parsed` and `resolve_tool_calls` waits for the answer as the session's
    strategy has it; `await reply` gives what `resolve` gives. It pickles as the call and the directory, and reads its
    answer from there.

    Args:
        session_store: Where its answer is kept.
        call: What was asked.
        question: Of the session that asked, None for one that came back from a pickle.
        session: Likewise.
    """

    def __init__(
        self,
        session_store: SessionStore,
        call: Call,
        question: SessionCall | None = None,
        session: Session | None = None,
    ) -> None:
        super().__init__()
        self.call = call
        self._session_store = session_store
        self._session_call = question
        self._session = session
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
    def question(self) -> SessionCall | None:
        """How its session goes through with it, None for one that came back from a pickle."""
        return self._session_call

    @property
    def key(self) -> str:
        """The call's key in the store, base64url."""
        return self._session_store.key(self.call) if self._session_call is None else self._session_call.key

    @property
    def stage(self) -> str:
        """Where it stands: "asked", "cached", "sent", "stored", "pending" or "failed"; waits for nothing."""
        if self._session_call is not None:
            return self._session_call.stage
        found = self._session_store.retrieve(self.call)
        return "cached" if isinstance(found, Present) else type(found).__name__.lower()

    @property
    def error(self) -> ErrorResponse | None:
        """Why there is no answer, None where there is one; waits until that is known."""
        try:
            self._get()
        except ErrorResponse as error:
            return error
        return None

    @property
    def usage(self) -> Usage | None:
        """Tokens of all replies that led to the answer, None where a provider did not say; waits."""
        return self._get().usage

    @property
    def cost_usd(self) -> float | None:
        """What it cost when it was paid, in US dollars, None for unknown; waits."""
        return self._get().cost_usd

    def ask(self) -> None:
        """Ask it, where the strategy does that at once. Called once, by its maker."""
        if self._session is not None and self._session_call is not None:
            self._session.asked(self._session_call)

    def retrieve(self) -> Retrieved:
        """Return what there is of it: present, pending, failed or absent. Sends nothing."""
        return self._session_store.retrieve(self.call) if self._session_call is None else self._session_call.retrieve()

    def resolve(self) -> str:
        """Wait, and give the answer's text.

        Raises:
            ErrorResponse: Where it has failed.
            KeyboardInterrupt: After an interrupt, which stops all that the session has on its way.
        """
        return self._get().text

    def resolve_parsed(self) -> Any:
        """Wait, and give the answer as the type that was asked for.

        Raises:
            ErrorResponse: Where it has failed.
            UsageError: Where no `response_format` was given, or the model called tools.
        """
        if self.call.text_format is None:
            raise UsageError("There is nothing to parse into: ask with response_format=, or take resolve_json().")
        value = self._get().value
        if isinstance(value, Called):
            names = ", ".join(call.name for call in value.calls)
            raise UsageError(f"The model called tools ({names}) in place of an answer: take resolve_tool_calls().")
        return value

    def resolve_tool_calls(self) -> list[CalledTool]:
        """Wait, and give the calls of tools that the model made, arguments validated; an empty list for none.

        With `run_tools=True` they have been run, and none is left.

        Raises:
            ErrorResponse: Where it has failed.
            UsageError: Where no `tools` were given.
        """
        if not self.call.tools:
            raise UsageError("No tools were offered: ask with tools=.")
        value = self._get().value
        return list(value.calls) if isinstance(value, Called) else []

    def resolve_function_calls(self) -> list[CalledTool]:
        return self.resolve_tool_calls() if self.call.tools else []

    def to_assistant_message(self) -> Turn:
        """Wait, and give the answer as a turn that a further call may begin with.

        Raises:
            ErrorResponse: Where it has failed.
        """
        answer = self._get()
        return Turn("assistant", answer.text, calls=answer.calls, echo=answer.echo)

    async def _wait_here(self) -> str:
        question, session = self._session_call, self._session
        if question is not None and session is not None and not question.done.is_set():
            if session.gathers:
                await asyncio.sleep(_GATHER_S)
            elif question.stage != "pending":
                await question.ended()
        return self.resolve()

    def _get(self) -> AnswerRecord:
        if self._answer is None:
            session, question = self._session, self._session_call
            if session is None or question is None or not (session.is_open or question.done.is_set()):
                self._answer = self._found()
            else:
                self._answer = session.wait_for_answer(question)
        return self._answer

    def _found(self) -> AnswerRecord:
        found = self._session_store.retrieve(self.call)
        if isinstance(found, Present):
            return found.answer
        if isinstance(found, Failed):
            raise found.error
        raise UsageError(
            f"The answer is not in {self._session_store.directory} ({type(found).__name__.lower()}). Run the program "
            "that asks it. Nothing was sent."
        )


def _revived(directory: str, call: Call) -> LazyReply:
    from pllm_notebook.sessions.session import live_session

    session = live_session(directory)
    return LazyReply(SessionStore(directory), call) if session is None else session.reply_to(call)

"""What a program holds of a call: a reply that may not be there yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pllm_notebook.conversation import Turn
from pllm_notebook.exceptions import UsageError
from pllm_notebook.pipeline.calls import Call
from pllm_notebook.pipeline.failing import ErrorResponse
from pllm_notebook.pipeline.ready import LLMResponse
from pllm_notebook.pipeline.retrieving import Answer, Failed, Place, Present, Retrieved
from pllm_notebook.records import Usage
from pllm_notebook.tools import Called, CalledTool

if TYPE_CHECKING:
    from pllm_notebook.pipeline.questions import Question
    from pllm_notebook.pipeline.session import Session

__all__ = ["Reply"]

# What other tasks of an awaiting program may take to ask their own calls, before all are sent by batch.
_GATHER_S = 0.02


class Reply(LLMResponse):
    """A lazy reply. Made by `ask_llm`.

    Each of `resolve`, `resolve_json`, `resolve_parsed` and `resolve_tool_calls` waits for the answer as the session's
    strategy has it; `await reply` gives what `resolve` gives. It pickles as the call and the directory, and reads its
    answer from there.

    Args:
        place: Where its answer is kept.
        call: What was asked.
        question: Of the session that asked, None for one that came back from a pickle.
        session: Likewise.
    """

    def __init__(
        self, place: Place, call: Call, question: Question | None = None, session: Session | None = None
    ) -> None:
        super().__init__()
        self.call = call
        self._place = place
        self._question = question
        self._session = session
        self._answer: Answer | None = None

    def __repr__(self) -> str:
        # Never the text: showing a reply must not wait for it.
        who = f"{self.call.agent}, call {self.call.number}" if self.call.agent else "a call"
        return f"<Reply to {who}: {self.stage}>"

    def __str__(self) -> str:
        return repr(self)

    def __reduce__(self) -> tuple[Any, tuple[str, Call]]:
        return _revived, (self._place.directory, self.call)

    @property
    def question(self) -> Question | None:
        """How its session goes through with it, None for one that came back from a pickle."""
        return self._question

    @property
    def key(self) -> str:
        """The call's key in the store, base64url."""
        return self._place.key(self.call) if self._question is None else self._question.key

    @property
    def stage(self) -> str:
        """Where it stands: "asked", "cached", "sent", "stored", "pending" or "failed"; waits for nothing."""
        if self._question is not None:
            return self._question.stage
        found = self._place.retrieve(self.call)
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
        if self._session is not None and self._question is not None:
            self._session.asked(self._question)

    def retrieve(self) -> Retrieved:
        """Return what there is of it: present, pending, failed or absent. Sends nothing."""
        return self._place.retrieve(self.call) if self._question is None else self._question.retrieve()

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
        question, session = self._question, self._session
        if question is not None and session is not None and not question.done.is_set():
            if session.gathers:
                await asyncio.sleep(_GATHER_S)
            elif question.stage != "pending":
                await question.ended()
        return self.resolve()

    def _get(self) -> Answer:
        if self._answer is None:
            session, question = self._session, self._question
            if session is None or question is None or not (session.goes_on or question.done.is_set()):
                self._answer = self._found()
            else:
                self._answer = session.answer_of(question)
        return self._answer

    def _found(self) -> Answer:
        found = self._place.retrieve(self.call)
        if isinstance(found, Present):
            return found.answer
        if isinstance(found, Failed):
            raise found.error
        raise UsageError(
            f"The answer is not in {self._place.directory} ({type(found).__name__.lower()}). Run the program that "
            f"asks it. Nothing was sent."
        )


def _revived(directory: str, call: Call) -> Reply:
    from pllm_notebook.pipeline.session import live

    session = live(directory)
    return Reply(Place(directory), call) if session is None else session.reply_to(call)

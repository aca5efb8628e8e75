"""Who asks in a program: a name with a counter, a history and notes of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import ToolCallOutput
from pllm_notebook.option_fields import taken_by
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType
from pllm_notebook.sessions.call import Call, CallParameters, checked, salt_for, tools_of
from pllm_notebook.sessions.called_functions import run_called_functions
from pllm_notebook.sessions.lazy_reply import LazyReply
from pllm_notebook.sessions.llm_identity import LLMIdentity
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.sessions.message_state import MessageState, open_message_state
from pllm_notebook.sessions.metadata import Metadata
from pllm_notebook.signatures import shows

if TYPE_CHECKING:
    from pllm_notebook.sessions.session import Session
    from pllm_notebook.sessions.session_call import SessionCall

__all__ = ["Agent"]


class Agent:
    """One who asks. Made by `session.agent`; agents share answers, unless they salt their calls.

    Args:
        session: Where it asks.
        name: Its name.
        metadata: What it noted in earlier runs of the program.
        on_change: Called when its notes have changed.

    Attributes:
        history: Its replies, in the order it asked.
        metadata: Its notes.
    """

    def __init__(
        self, session: Session, name: str, metadata: Mapping[str, Any] | None, on_change: Callable[[], None]
    ) -> None:
        self.name = name
        self.history: list[LazyReply] = []
        self.metadata = Metadata(metadata, on_change)
        self._session = session
        self._state: MessageState | None = None
        self._resumed = False
        # Agents may ask from several threads; each call has its own number.
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Agent {self.name!r}: {len(self.history)} calls>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.persist()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.persist()

    @property
    def session(self) -> Session:
        """Where it asks."""
        return self._session

    @shows(taken_by(Options, "ask_llm"), also=CallParameters)
    def ask_llm(
        self,
        documents: Any,
        *more: Any,
        instructions: str | None = None,
        llm: str | LLMIdentity | None = None,
        salt: str | int | None = None,
        hash_by: Sequence[str] | None = None,
        response_format: Any = None,
        tools: Sequence[Any] | None = None,
        tag: str | None = None,
        replicate: int | None = None,
        text_format: Any = None,
        structured_output: Any = None,
        save_input: bool | None = None,
        **params: Unpack[CallParameters],
    ) -> LazyReply:
        """Ask, and return a lazy reply.

        Besides the options below it takes keywords of OpenAI's client (max_tokens, top_p, stop, seed,
        reasoning_effort, reasoning={"effort": …}, …), in that client's words for every provider.

        An answer that the session's directory has is taken from there. Whether anything is sent at once is the
        strategy's: "sync" sends and waits, "async" sends, "batch" and "hybrid" gather.

        Args:
            documents: What is asked about: text, data, messages, images, PDFs, earlier replies, a conversation.
            *more: Further documents.
            instructions: The system's words.
            llm: The model, as `provider:name`, `provider/name`, a bare name or an `LLMIdentity`; None for the
                session's.
            salt: Any word or whole number; another is another draw.
            hash_by: "seq" has the agent's counter in the key, so that equal calls are different ones. "llm", "tools",
                "tool_names", "structured_output", "kwargs" and "all" are accepted and change nothing: these are in
                every key.
            response_format: A type that the answer must fit (see `LazyReply.resolve_parsed`).
            tools: Functions, models or `StructuredTool`s that the model may call (see `LazyReply.resolve_tool_calls`).
            tag: A word to find the call by.
            replicate: Index among several answers to the same; None and 0 are the plain call.
            text_format: `response_format` by an older name.
            structured_output: Likewise.
            save_input: Documents are kept in any case (`session.documents`): None or True.
            **params: Options, and keywords of OpenAI's client.

        Raises:
            UsageError: When it cannot be asked as written. Nothing was sent.
            ErrorResponse: In a session with strategy "sync" and `errors="raise"`, where it has failed.
        """
        if replicate is not None and (isinstance(replicate, bool) or not isinstance(replicate, int) or replicate < 0):
            raise UsageError(f"replicate is a whole number of at least 0, not {replicate!r}. Nothing was sent.")
        if instructions is not None and not isinstance(instructions, str):
            raise UsageError(f"instructions are text, not {type(instructions).__name__}. Nothing was sent.")
        if tag is not None and not isinstance(tag, str):
            raise UsageError(f"tag is text, not {tag!r}. Nothing was sent.")
        if save_input is False:
            raise UsageError("save_input=False is not carried out: documents are always kept. Nothing was sent.")
        formats = [given for given in (response_format, text_format, structured_output) if given is not None]
        if len(formats) > 1:
            raise UsageError(
                "response_format, text_format and structured_output are one argument: give one. Nothing was sent."
            )
        wanted = formats[0] if formats else None
        if wanted is not None:
            OutputType.of(wanted)
        tools = [tools] if callable(tools) else tools
        model = self._session.model_of(llm)
        given = checked(params, model)
        number = next(self._numbers)
        prompt, hashes = self._session.read((documents, *more))
        call = Call(
            model=model,
            prompt=prompt,
            instructions=instructions,
            text_format=wanted,
            tools=() if tools is None else tools_of(tools),
            params=given,
            salt=salt_for(salt, self._session.hash_by_for(hash_by), self.name, number),
            replicate=replicate or 0,
            agent=self.name,
            number=number,
            tag=tag or "",
            identity=llm.identity if isinstance(llm, LLMIdentity) else "",
            documents=hashes,
            sources=tuple(tools or ()),
        )
        reply = self._session.reply_to(call)
        self.history.append(reply)
        reply.ask()
        return reply

    def state(self, name: str = "messages", *, resume: bool = False) -> MessageState:
        """Open a conversation of this agent's that is kept in the session's directory.

        Args:
            name: Of the conversation.
            resume: Whether to stand at the message that was said last, in this run of the program or an earlier one;
                without, it begins anew, and what was said before is its tree.
        """
        return open_message_state(
            self._session.directory, self.name, name, self._session.documents, asking=self, resume=resume
        )

    def get_msg_state(self, *, persist: bool = False) -> MessageState:
        """Return this agent's own conversation: the same one within a session.

        Args:
            persist: Whether it goes on where an earlier run of the program left it; without, it begins anew. In
                either case what is said is kept in the session's directory (see `state`).
        """
        if self._state is None or (persist and not self._resumed):
            self._state, self._resumed = self.state(resume=persist), persist
        return self._state

    def ask_functions(
        self,
        response: LLMResponse,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        if_func_not_exist: str | Exception | None = None,
        **more: Callable[..., Any],
    ) -> list[ToolCallOutput]:
        """Run the functions that a reply called, and return their outputs (see `run_called_functions`).

            outputs = agent.ask_functions(reply, weigh=weigh)
            agent.ask_llm("What does tea weigh?", reply, *outputs, tools=[weigh])

        Args:
            response: The reply; waited for.
            functions: By the names that the model calls them.
            if_func_not_exist: What the model is told of a function that is not among them, or what is raised; None
                for a `UsageError`.
            **more: Further functions.
        """
        return run_called_functions(response, {**(functions or {}), **more}, if_func_not_exist)

    @property
    def asked(self) -> list[SessionCall]:
        """What it has asked, in order; equal calls are one question, which stands here as often."""
        return [reply.question for reply in self.history if reply.question is not None]

    def print(self, *values: Any) -> None:
        """Print, above the session's dashboard where there is one."""
        self._session.print(*values)

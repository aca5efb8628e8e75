"""An agent of a session: a name with its own call counter, history and notes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Prompt, ToolCallOutput
from pllm_notebook.options import Options, taken_by
from pllm_notebook.schema import OutputType
from pllm_notebook.sessions.call import Call, CallParameters, check_params, salt_for, tools_of
from pllm_notebook.sessions.called_functions import run_called_functions
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.lazy_reply import LazyReply
from pllm_notebook.sessions.llm_identity import LLMIdentity
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.sessions.message_state import MessageState, open_message_state
from pllm_notebook.sessions.metadata import Metadata
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.signatures import shows

__all__ = ["Agent", "AgentSession"]


class AgentSession(Protocol):
    """The part of a session that its agents use."""

    directory: str
    documents: Documents

    def model_of(self, llm: str | LLMIdentity | None) -> str:
        """Return the model of a call that names *llm*, or None for the session's model."""

    def hash_by_for(self, hash_by: Sequence[str] | None) -> Sequence[str] | None:
        """Return the `hash_by` of a call."""

    def read(self, documents: Sequence[Any]) -> tuple[Prompt, tuple[str, ...]]:
        """Read documents into a prompt; return it with their hashes."""

    def reply_to(self, call: Call) -> LazyReply:
        """Return the lazy reply to a call. Sends nothing."""

    def persist(self) -> None:
        """Write the notes."""

    def print(self, *values: Any) -> None:
        """Print above the dashboard."""


class Agent:
    """One agent of a session, created by `session.agent`. Agents share answers unless they salt their calls.

    Attributes:
        name: Its name.
        history: Its replies, in the order of the calls.
        metadata: Its notes, which persist between runs of the program.
    """

    def __init__(self, session: AgentSession, name: str, notes: Mapping[str, Any] | None) -> None:
        self.name = name
        self.history: list[LazyReply] = []
        self.metadata = Metadata(notes, session.persist)
        self._session = session
        self._state: MessageState | None = None
        self._resumed = False
        # An agent may be used from several threads; each call has its own number.
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
    def session(self) -> AgentSession:
        """The session that the agent belongs to."""
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
        """Ask a model, and return a lazy reply. The call is paid for unless the session's directory has its answer.

        Besides the options below, keywords of OpenAI's client (max_tokens, top_p, stop, seed, reasoning_effort,
        reasoning={"effort": …}, …) are accepted, and translated for other providers.

        The strategy decides when the call is sent: "sync" sends it and waits, "async" sends it, "batch" and "hybrid"
        collect it.

        Args:
            documents: The input: text, data, messages, images, PDFs, earlier replies, a conversation.
            *more: Further documents.
            instructions: System prompt.
            llm: The model, as `provider:name`, `provider/name`, a bare name or an `LLMIdentity`; None for the
                session's.
            salt: Any string or integer. Change it to request a fresh answer instead of the stored one.
            hash_by: "seq" adds the agent's call counter to the key, so that each of several equal calls gets its own
                answer. "llm", "tools", "tool_names", "structured_output", "kwargs" and "all" are accepted but have no
                effect, because they are part of every key.
            response_format: A type for the answer (see `LazyReply.resolve_parsed`).
            tools: Functions, models or `StructuredTool`s that the model may call (see `LazyReply.resolve_tool_calls`).
            tag: A label to find the call by.
            replicate: Index among several answers to the same call; None and 0 are the plain call.
            text_format: Older name of `response_format`.
            structured_output: Older name of `response_format`.
            save_input: None or True; documents are always kept (`session.documents`).
            **params: Options, and keywords of OpenAI's client.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
            ErrorResponse: If the call has failed, in a session with strategy "sync" and `errors="raise"`.
        """
        if replicate is not None and (isinstance(replicate, bool) or not isinstance(replicate, int) or replicate < 0):
            raise UsageError(f"replicate is an integer of at least 0, not {replicate!r}. Nothing was sent.")
        if instructions is not None and not isinstance(instructions, str):
            raise UsageError(f"instructions is a string, not {type(instructions).__name__}. Nothing was sent.")
        if tag is not None and not isinstance(tag, str):
            raise UsageError(f"tag is a string, not {tag!r}. Nothing was sent.")
        if save_input is False:
            raise UsageError("save_input=False is not supported: documents are always kept. Nothing was sent.")
        formats = [given for given in (response_format, text_format, structured_output) if given is not None]
        if len(formats) > 1:
            raise UsageError(
                "response_format, text_format and structured_output are the same argument: pass only one. Nothing was "
                "sent."
            )
        wanted = formats[0] if formats else None
        if wanted is not None:
            OutputType.of(wanted)
        tools = [tools] if callable(tools) else tools
        model = self._session.model_of(llm)
        given = check_params(params, model)
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
        """Open a conversation of this agent, stored in the session's directory.

        Args:
            name: Name of the conversation.
            resume: Whether to continue after the newest message of this or an earlier run of the program. Otherwise
                the conversation starts empty, and earlier messages stay in its tree.

        Raises:
            UsageError: For a name that is not a string, or is too long for a file name. Nothing was sent.
        """
        return open_message_state(
            self._session.directory, self.name, name, self._session.documents, asking=self, resume=resume
        )

    def get_msg_state(self, *, persist: bool = False) -> MessageState:
        """Return this agent's default conversation, the same object in the whole session.

        Args:
            persist: Whether to continue where an earlier run of the program ended instead of starting empty. The first
                call with True replaces a conversation that was opened without it. Messages are stored in the session's
                directory in either case (see `state`).
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
        """Run the functions that a reply calls, and return their outputs (see `run_called_functions`).

            outputs = agent.ask_functions(reply, weigh=weigh)
            agent.ask_llm("What does tea weigh?", reply, *outputs, tools=[weigh])

        Args:
            response: The reply, which is waited for.
            functions: Functions by the names that the model calls.
            if_func_not_exist: Output for a call of an unknown function, or an exception to raise; None for a
                `UsageError`.
            **more: Further functions.
        """
        return run_called_functions(response, {**(functions or {}), **more}, if_func_not_exist)

    @property
    def calls(self) -> list[SessionCall]:
        """The agent's calls, in order. Equal calls are the same object, listed once for each time it was made."""
        return [reply.session_call for reply in self.history if reply.session_call is not None]

    @property
    def asked(self) -> list[SessionCall]:
        """Former name of `calls`, to be removed in the next release."""
        return self.calls

    def print(self, *values: Any) -> None:
        """Print, above the session's dashboard if it is shown."""
        self._session.print(*values)

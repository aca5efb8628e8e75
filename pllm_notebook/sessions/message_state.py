"""Conversations of a program: lists of messages that keep all their earlier states."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload
from urllib.parse import quote

from pllm_notebook.exceptions import UsageError
from pllm_notebook.formatting import escape_html
from pllm_notebook.messages_types import Dialogue, ToolCallOutput, Turn
from pllm_notebook.sessions.called_functions import run_called_functions
from pllm_notebook.sessions.document_reader import DocumentStore
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.message_tree import MessageTree, render_tree, render_tree_html
from pllm_notebook.sessions.prompt_reader import turns_from

__all__ = ["AskingAgent", "MessageState", "open_message_state"]

FOLDER = "states"
_LONGEST_FILE = 255


class AskingAgent(Protocol):
    """The part of an agent that a conversation uses."""

    def ask_llm(self, documents: Any, *more: Any, **how: Any) -> Any:
        """Ask a model, and return the lazy reply."""


class MessageState(Sequence[Turn]):
    """A conversation at one point: its turns, as a list that can only grow.

    The state is a node in a tree of all messages of the conversation. `append` adds a message; `fork` returns an
    independent state at the same message. The same message after the same messages is the same node, so a program that
    is run again follows the same path.

    Args:
        documents: Its first messages: (role, text), messages, turns, earlier replies (see `Agent.ask_llm`).
        agent: The agent that `ask_llm` uses, None if it is not needed.
        name: Name for display.
        keep: Stores texts and files, None to store nothing.
        tree: The tree of its messages; None for a new one.
        at: Hash of its last message, None for an empty conversation.
    """

    def __init__(
        self,
        documents: Sequence[Any] = (),
        *,
        agent: AskingAgent | None = None,
        name: str = "",
        keep: DocumentStore | None = None,
        tree: MessageTree | None = None,
        at: str | None = None,
    ) -> None:
        self._agent = agent
        self._name = name
        self._keep = keep
        self._tree = MessageTree() if tree is None else tree
        self._stands_at = at
        # The reply that `ask_llm` added last, and whether it still has to be waited for.
        self._reply: Any = None
        self._coming = False
        self.extend(documents)

    @property
    def _at(self) -> str | None:
        """Hash of the last message. Waits for the reply that `ask_llm` added."""
        if self._coming:
            try:
                said = self._reply.to_assistant_message()
            except ErrorResponse:
                # Raised only once. The conversation then ends with the question, and can be continued.
                self._reply, self._coming = None, False
                raise
            self._coming = False
            self._stands_at = self._tree.say(self._stands_at, said).hash
        return self._stands_at

    # The conversation as a list that grows.

    def append(self, *said: Any) -> None:
        """Add a message: `append("user", "Why?")`, or one document of any kind, such as an earlier reply.

        Waits for a lazy reply. The reply that `ask_llm` has just added is not added twice.
        """
        self.extend([said] if len(said) == 2 else said)

    def extend(self, documents: Sequence[Any]) -> None:
        """Add several documents, in order; consecutive texts make one user turn.

        Raises:
            UsageError: For an unreadable document, or one outside a list. Nothing was sent.
        """
        if isinstance(documents, (str, bytes, Mapping)):
            raise UsageError(
                f"extend takes a list of documents, not {documents!r:.60}; use append for a single one. "
                f"Nothing was sent."
            )
        documents = list(documents)
        if len(documents) == 1 and documents[0] is self._reply:
            return  # `ask_llm` added it already
        dialogue = turns_from(documents, self._keep)
        for each in ([] if dialogue.system is None else [dialogue.system], dialogue.turns):
            for said in each:
                self._stands_at = self._tree.say(self._at, said).hash
                self._reply = None

    def __iadd__(self, documents: Any) -> MessageState:
        self.extend(documents if isinstance(documents, list) else [documents])
        return self

    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Turn, ...]: ...
    def __getitem__(self, index: int | slice) -> Turn | tuple[Turn, ...]:
        return self.turns[index]

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.turns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageState) and self._at == other._at

    __hash__ = None  # type: ignore[assignment]  # it grows

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return tuple(node.said for node in self._tree.path(self._at) if isinstance(node.said, Turn))

    @property
    def system(self) -> str | None:
        """The instructions among the messages, None for none."""
        return "\n\n".join(node.said for node in self._tree.path(self._at) if isinstance(node.said, str)) or None

    @property
    def hash(self) -> str:
        """Hash of all messages up to this point (sha256, base64url), "" for an empty conversation."""
        return self._at or ""

    def dialogue(self) -> Dialogue:
        """Return the whole conversation."""
        return Dialogue(self.turns, self.system)

    # The conversation as a tree.

    def fork(self) -> MessageState:
        """Return an independent state at the same message of the same tree."""
        return self._state_at(self._at)

    @property
    def parent(self) -> MessageState | None:
        """The state before the last message, None for an empty conversation."""
        return None if self._at is None else self._state_at(self._tree[self._at].parent)

    def history(self) -> list[MessageState]:
        """Return every earlier state and this one, oldest first."""
        return [self._state_at(node.hash) for node in self._tree.path(self._at)]

    def branches(self) -> list[MessageState]:
        """Return the states that follow this one in the tree."""
        return [self._state_at(at) for at in self._tree.after(self._at)]

    # Calls to the model.

    def ask_llm(self, *documents: Any, **how: Any) -> Any:
        """Ask with the conversation so far and the documents, and return the lazy reply (see `Agent.ask_llm`).

        The documents and the reply are added to the conversation. Reading or continuing the conversation waits for the
        reply; if the reply has failed, this raises its error once, and the reply is not added. To ask several questions
        from one state, use a `fork()` for each, or `agent.ask_llm(state, …)`.

        Raises:
            UsageError: If the conversation has no agent. Nothing was sent.
            ErrorResponse: If an earlier reply has failed.
        """
        if self._agent is None:
            raise UsageError(
                "This conversation has no agent (it was created directly, or unpickled). Use "
                "agent.ask_llm(state, …). Nothing was sent."
            )
        reply = self._agent.ask_llm([self, *documents], **how)
        self.extend(documents)
        self._reply, self._coming = reply, True
        return reply

    def ask_functions(
        self,
        response: Any = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        if_func_not_exist: str | Exception | None = None,
        **more: Callable[..., Any],
    ) -> list[ToolCallOutput]:
        """Run the functions that the last reply calls, add their outputs, and return them. Sends nothing.

        Args:
            response: The reply; None for the one that `ask_llm` added last.
            functions: Functions by name.
            if_func_not_exist: Output for a call of an unknown function, or an exception to raise; None for a
                `UsageError`.
            **more: Further functions.

        Returns:
            One output per call, in order.
        """
        reply = self._reply if response is None else response
        if reply is None:
            return []
        outputs = run_called_functions(reply, {**(functions or {}), **more}, if_func_not_exist)
        self.extend(outputs)
        return outputs

    def resolve(self) -> list[str]:
        """Return the text of each turn, oldest first. Waits for the last reply."""
        return [turn.text for turn in self.turns]

    @property
    def final_answer(self) -> list[str]:
        """The result of `resolve`."""
        return self.resolve()

    def __repr__(self) -> str:
        return f"{self._headline()}\n{render_tree(self._tree, self._at)}".rstrip()

    def _repr_html_(self) -> str:
        return f"<div>{escape_html(self._headline())}</div>{render_tree_html(self._tree, self._at)}"

    def __getstate__(self) -> dict[str, Any]:
        return {"tree": self._tree, "at": self._at, "name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(name=state["name"], tree=state["tree"], at=state["at"])  # type: ignore[misc]

    def _state_at(self, at: str | None) -> MessageState:
        return MessageState(agent=self._agent, name=self._name, keep=self._keep, tree=self._tree, at=at)

    def _headline(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        count, others = len(self.turns), len(self._tree) - len(self._tree.path(self._at))
        said = f"{count:,} message{'' if count == 1 else 's'}"
        return f"MessageState{name}: {said}" + (f", {others:,} elsewhere in its tree" if others else "")


def open_message_state(
    directory: str | os.PathLike[str],
    agent: str,
    name: str,
    documents: Documents,
    *,
    asking: AskingAgent | None = None,
    resume: bool = False,
) -> MessageState:
    """Open a conversation stored in a session's directory, by agent name and conversation name.

    Args:
        directory: The session's directory.
        agent: The agent's name.
        name: Name of the conversation.
        documents: The session's documents.
        asking: The agent.
        resume: Whether to continue after the newest message of this or an earlier run of the program. Otherwise the
            conversation starts empty and earlier messages stay in its tree: a program that is run again adds the same
            messages and reaches the same state.

    Raises:
        UsageError: For a name that is not a string, or is too long for a file name. Nothing was sent.
        StoreError: If a document of the conversation is missing. Nothing was sent.
    """
    if not isinstance(name, str):
        raise UsageError(f"A conversation's name is a string, not {name!r}. Nothing was sent.")
    # A name may contain a slash, or be "..". `quote` keeps dots; without one in the agent's name, the first dot of the
    # file's name is where it ends, so that no two pairs of names share a file.
    file = f"{quote(agent, safe='').replace('.', '%2E')}.{quote(name, safe='')}.jsonl"
    if len(file) > _LONGEST_FILE:
        raise UsageError(
            f"The agent's name and the conversation's name together form a file name that is too long: "
            f"{len(file)} characters of at most {_LONGEST_FILE}. Use a shorter name. Nothing was sent."
        )
    tree = MessageTree(os.path.join(os.fspath(directory), FOLDER, file), documents)
    return MessageState(agent=asking, name=name, keep=documents, tree=tree, at=tree.latest if resume else None)

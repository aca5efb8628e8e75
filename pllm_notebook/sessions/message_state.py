"""Conversations that a program leads: a list of messages whose every earlier state is still there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload
from urllib.parse import quote

from pllm_notebook.escaping import escape_html
from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Dialogue, ToolCallOutput, Turn
from pllm_notebook.sessions.called_functions import run_called_functions
from pllm_notebook.sessions.document_reader import DocumentStore
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.message_tree import MessageTree, render_tree, render_tree_html
from pllm_notebook.sessions.prompt_reader import turns_from

__all__ = ["AskingAgent", "MessageState", "open_message_state"]

FOLDER = "states"


class AskingAgent(Protocol):
    """An agent, as a conversation knows it."""

    def ask_llm(self, documents: Any, *more: Any, **how: Any) -> Any:
        """Ask a model, and give the lazy reply."""


class MessageState(Sequence[Turn]):
    """A conversation at one point: its turns, as a list that can only grow.

    It stands in a tree of all that was said since it was begun. `append` goes one message on; `fork` gives another
    that stands at the same message, and what the one goes on to say the other does not hear. Saying the same after
    the same is the same message, so a program that is run again goes the same way.

    Args:
        documents: What has been said: (role, text), messages, turns, earlier replies (see `Agent.ask_llm`).
        agent: Who asks, None where `ask_llm` is not needed.
        name: As it is shown.
        keep: Where texts and files that are given are kept.
        tree: That it stands in; None for a new one.
        at: The message it stands at, None for before the first.
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
        # The reply that `ask_llm` has added last, and whether it is still to be waited for.
        self._reply: Any = None
        self._coming = False
        self.extend(documents)

    @property
    def _at(self) -> str | None:
        """The message it stands at. Waits for a reply that was added and has not come."""
        if self._coming:
            try:
                said = self._reply.to_assistant_message()
            except ErrorResponse:
                # Told once: the conversation stands at the question, and can be asked on.
                self._reply, self._coming = None, False
                raise
            self._coming = False
            self._stands_at = self._tree.say(self._stands_at, said).hash
        return self._stands_at

    # A list that grows.

    def append(self, *said: Any) -> None:
        """Add what was said: `append("user", "Why?")`, or one document of any kind, an earlier reply among them.

        A lazy reply is waited for. The one that `ask_llm` has just added is not added again.
        """
        self.extend([said] if len(said) == 2 else said)

    def extend(self, documents: Sequence[Any]) -> None:
        """Add several documents, in order; texts that follow each other are one turn of the user.

        Raises:
            UsageError: For one that cannot be read, or stands in no list. Nothing was sent.
        """
        if isinstance(documents, (str, bytes, Mapping)):
            raise UsageError(
                f"What has been said is a list of documents, not {documents!r:.60}; one of them goes to append. "
                f"Nothing was sent."
            )
        documents = list(documents)
        if len(documents) == 1 and documents[0] is self._reply:
            return  # `ask_llm` has added it
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
        """The name of all that was said up to here (sha256, base64url), "" for nothing."""
        return self._at or ""

    def dialogue(self) -> Dialogue:
        """Return all that was said."""
        return Dialogue(self.turns, self.system)

    # A tree.

    def fork(self) -> MessageState:
        """Return another conversation that stands at the same message, in the same tree."""
        return self._standing(self._at)

    @property
    def parent(self) -> MessageState | None:
        """The state before the last message, None before the first."""
        return None if self._at is None else self._standing(self._tree[self._at].parent)

    def history(self) -> list[MessageState]:
        """Return every state on the way here, the first message's first and this one last."""
        return [self._standing(node.hash) for node in self._tree.path(self._at)]

    def branches(self) -> list[MessageState]:
        """Return the states that any conversation of this tree went on to from here."""
        return [self._standing(at) for at in self._tree.after(self._at)]

    # A program's.

    def ask_llm(self, *documents: Any, **how: Any) -> Any:
        """Ask with all that was said so far and the documents, and return the lazy reply (see `Agent.ask_llm`).

        Documents and reply are added to the conversation. The reply is waited for when the conversation is read, or
        goes on; one that fails raises there once, and is no part of the conversation. To put several questions to
        one state ask each of a `fork()`, or `agent.ask_llm(state, …)`.

        Raises:
            UsageError: Where it has no agent. Nothing was sent.
            ErrorResponse: Where an earlier reply has failed.
        """
        if self._agent is None:
            raise UsageError(
                "This conversation belongs to no agent (it was made by hand, or unpickled). Ask with "
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
        """Run the functions that the last reply has called, add their outputs, and return them. Sends nothing.

        Args:
            response: The reply; None for the one that `ask_llm` added last.
            functions: By name.
            if_func_not_exist: What the model is told of a function that is not among them, or what is raised; None
                for a `UsageError`.
            **more: Further functions.

        Returns:
            An output for each call, in order; none where nothing was called.
        """
        reply = self._reply if response is None else response
        if reply is None:
            return []
        outputs = run_called_functions(reply, {**(functions or {}), **more}, if_func_not_exist)
        self.extend(outputs)
        return outputs

    def resolve(self) -> list[str]:
        """Return the text of each turn, oldest first. Waits for a reply that has not come."""
        return [turn.text for turn in self.turns]

    @property
    def final_answer(self) -> list[str]:
        """What `resolve` returns."""
        return self.resolve()

    def __repr__(self) -> str:
        return f"{self._headline()}\n{render_tree(self._tree, self._at)}".rstrip()

    def _repr_html_(self) -> str:
        return f"<div>{escape_html(self._headline())}</div>{render_tree_html(self._tree, self._at)}"

    def __getstate__(self) -> dict[str, Any]:
        return {"tree": self._tree, "at": self._at, "name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(name=state["name"], tree=state["tree"], at=state["at"])  # type: ignore[misc]

    def _standing(self, at: str | None) -> MessageState:
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
    """Open a conversation that is kept in a session's directory, under an agent's name and one of its own.

    Args:
        directory: The session's.
        agent: Its name.
        name: Of the conversation.
        documents: The session's.
        asking: The agent.
        resume: Whether to stand at the message that was said last, in this program's run or an earlier one. Without,
            the conversation begins anew, and what was said is its tree: a program that is run again says the same
            again, and stands where it stood.

    Raises:
        StoreError: If a document that it shows is gone. Nothing was sent.
    """
    # A person's word may hold a slash, or be "..".
    file = f"{quote(agent, safe='')}.{quote(name, safe='')}.jsonl"
    tree = MessageTree(os.path.join(os.fspath(directory), FOLDER, file), documents)
    return MessageState(agent=asking, name=name, keep=documents, tree=tree, at=tree.latest if resume else None)

"""Conversations that a program leads: a list of messages whose every earlier state is still there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, overload
from urllib.parse import quote

from pllm_notebook.conversation import Dialogue, Turn
from pllm_notebook.exceptions import UsageError
from pllm_notebook.pipeline.documents import Documents
from pllm_notebook.pipeline.reader import Keeper
from pllm_notebook.pipeline.reading import said_by
from pllm_notebook.pipeline.trees import Tree, drawn, drawn_in_html
from pllm_notebook.shown import in_html

__all__ = ["Asking", "MessageState", "kept_state"]

FOLDER = "states"


class Asking(Protocol):
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
        agent: Asking | None = None,
        name: str = "",
        keep: Keeper | None = None,
        tree: Tree | None = None,
        at: str | None = None,
    ) -> None:
        self._agent = agent
        self._name = name
        self._keep = keep
        self._tree = Tree() if tree is None else tree
        self._at = at
        self.extend(documents)

    # A list that grows.

    def append(self, *said: Any) -> None:
        """Add what was said: `append("user", "Why?")`, or one document of any kind, an earlier reply among them.

        A lazy reply is waited for.
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
        dialogue = said_by(documents, self._keep)
        for each in ([] if dialogue.system is None else [dialogue.system], dialogue.turns):
            for said in each:
                self._at = self._tree.say(self._at, said).hash

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
        """Give all that was said."""
        return Dialogue(self.turns, self.system)

    # A tree.

    def fork(self) -> MessageState:
        """Give another conversation that stands at the same message, in the same tree."""
        return self._standing(self._at)

    @property
    def parent(self) -> MessageState | None:
        """The state before the last message, None before the first."""
        return None if self._at is None else self._standing(self._tree[self._at].parent)

    def history(self) -> list[MessageState]:
        """Give every state on the way here, the first message's first and this one last."""
        return [self._standing(node.hash) for node in self._tree.path(self._at)]

    def branches(self) -> list[MessageState]:
        """Give the states that any conversation of this tree went on to from here."""
        return [self._standing(at) for at in self._tree.after(self._at)]

    # A program's.

    def ask_llm(self, *documents: Any, **how: Any) -> Any:
        """Ask with all that was said so far, and then the documents; give the lazy reply (see `Agent.ask_llm`).

        The conversation does not change: several questions can be put to one state. `append` what shall stay.

        Raises:
            UsageError: Where it has no agent. Nothing was sent.
        """
        if self._agent is None:
            raise UsageError(
                "This conversation belongs to no agent (it was made by hand, or unpickled). Ask with "
                "agent.ask_llm(state, …). Nothing was sent."
            )
        return self._agent.ask_llm([self, *documents], **how)

    def __repr__(self) -> str:
        return f"{self._headline()}\n{drawn(self._tree, self._at)}".rstrip()

    def _repr_html_(self) -> str:
        return f"<div>{in_html(self._headline())}</div>{drawn_in_html(self._tree, self._at)}"

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


def kept_state(
    directory: str | os.PathLike[str],
    agent: str,
    name: str,
    documents: Documents,
    *,
    asking: Asking | None = None,
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
    tree = Tree(os.path.join(os.fspath(directory), FOLDER, file), documents)
    return MessageState(agent=asking, name=name, keep=documents, tree=tree, at=tree.latest if resume else None)

"""What was paid for, and what became of each answer: the model that a life's calls are held against.

A request is paid for from the moment the provider has it whole and has not refused it, whether or not anyone hears
the answer. The bound is kept request by request: an answer that is on its way, in hand or on disk is never paid for
again. So what was paid beyond one request for each key is what never became an answer on disk: in flight at a kill,
cancelled (by a stop, a time limit, or as the loser of a hedge), lost or spoilt on its way, or refused by the disk.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["Accounts", "Asked", "Paid", "Rules"]


@dataclass(frozen=True)
class Asked:
    """What a request asks, as far as it tells one answer from another.

    Attributes:
        question: The words and the type that all rows share.
        kind: "row", "repair", "pack" or "judge".
        subject: The conversation.
        items: The rows' own words, in order.
    """

    question: tuple[Any, ...]
    kind: str
    subject: tuple[str, ...]
    items: tuple[str, ...]


@dataclass(eq=False)
class Paid:
    """One request that was paid for.

    Attributes:
        state: "out", "in hand", "queued", "kept", or how it was lost.
    """

    id: str
    asked: Asked
    step: int
    cost_usd: float
    state: str = "out"


@dataclass
class Rules:
    """What the step that is played may pay for.

    Attributes:
        step: Its number.
        copies: Answers that each row gets.
        hedged: Whether a straggler may be sent a second time.
        pack: Rows that share a call, None for one.
        again: Whether answers that are there may be asked for once more, as the caller said.
        salt: The caller's word for another draw, which no provider sees.
        ceiling: Whether `max_cost_usd` is set, so that a request may limit its answer further than its question does. A
            reply that such a limit cuts off is no answer, and is asked for again.
        beside: Whether two runs ask the same side by side. Each may then send a pack again that was refused, or a
            row of one by itself, although the other's pack has answered rows of it.
    """

    step: int = 0
    copies: int = 1
    hedged: bool = False
    pack: int | None = None
    again: bool = False
    salt: str = ""
    ceiling: bool = False
    beside: bool = False


@dataclass
class Accounts:
    """All that was paid for in one life."""

    rules: Rules = field(default_factory=Rules)
    paid: dict[str, Paid] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    requests: int = 0
    _of: dict[Asked, list[Paid]] = field(default_factory=dict)
    _behind: dict[str, Paid] = field(default_factory=dict)
    _rows: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def admit(self, asked: Asked, cost_usd: float) -> Paid:
        """Note that the provider has a request whole and will charge it."""
        one = Paid(f"r{len(self.paid)}", asked, self.rules.step, cost_usd)
        if not self.rules.again:
            needless = self._needless(asked)
            if needless:
                self.faults.append(f"I3: {one.id} asks again {needless}: {asked.kind} {asked.items}")
        self.paid[one.id] = one
        self._of.setdefault(asked, []).append(one)
        return one

    def _needless(self, asked: Asked) -> str:
        if (asked.kind == "pack" and not self.rules.beside) or (asked.kind == "row" and self.rules.pack):
            for item in asked.items:
                for pack in (None,) if self.rules.beside else (None, self.rules.pack):
                    if (asked.question, pack, item) in self._rows:
                        return f"for {item}, which has an answer on disk"
        if asked.kind == "pack":
            return ""
        copies = self.rules.copies if asked.kind != "judge" else 1
        live = [one.state for one in self._of.get(asked, ()) if not one.state.startswith("lost")]
        if self._spared(asked):
            live = [state for state in live if state == "out"]
        if self.rules.hedged:  # each sample may have one more request on the wire
            copies += min(copies, live.count("out"))
        return "" if len(live) < copies else f"what is {live}"

    def _spared(self, asked: Asked) -> bool:
        return self.rules.beside and len(asked.subject) > 1

    def lose(self, one: Paid, why: str) -> None:
        """Note that the answer will never be of use."""
        if one.state != "kept":
            one.state = f"lost: {why}"

    def queued(self, key: str, entry: StoredReply) -> None:
        one = self._of_entry(entry)
        if one is not None and one.state != "kept":
            one.state = "queued"

    def committed(self, key: str, entry: StoredReply) -> None:
        one = self._of_entry(entry)
        if one is not None:
            before = self._behind.get(key)
            if before is not None and before is not one:
                # A pack may be asked again for the rows of it that the disk refused or lost.
                spared = self.rules.again or one.asked.kind == "pack" or self._spared(one.asked)
                if not (spared or before.state.startswith("lost")):
                    self.faults.append(f"I3: {key} was answered by {before.id} and again by {one.id}")
                before.state = "lost: replaced"
            one.state = "kept"
            self._behind[key] = one
            if one.asked.kind == "row":
                self._rows[one.asked.question, None, one.asked.items[0]] = key
        elif entry.finish is Finish.COMPLETE:
            metadata = entry.metadata
            item = _item_of(entry.text)
            whole = self._behind.get(metadata.get("pack_id", ""))
            if item is not None and whole is not None and item in whole.asked.items:
                self._rows[whole.asked.question, metadata["pack"], item] = key
            elif item is None and self.rules.again:  # the caller wished for another answer, and it is not valid
                self._forget_rows(key)
        else:  # the pack's answer is put away, since a refresh has brought one for the row alone
            self._forget_rows(key)

    def refused(self, entry: StoredReply) -> None:
        one = self._of_entry(entry)
        if one is not None:
            self.lose(one, "the disk refused it")

    def damaged(self, key: str) -> None:
        one = self._behind.pop(key, None)
        if one is not None:
            one.state = "lost: damaged"
        self._forget_rows(key)

    def _forget_rows(self, key: str) -> None:
        for row in [row for row, at in self._rows.items() if at == key]:
            del self._rows[row]

    def forgotten(self) -> None:
        """Note that what was answered was not to be kept."""
        for one in self.paid.values():
            if one.state == "in hand":
                one.state = "lost: not to be kept"

    def killed(self) -> None:
        """Note that the process was killed."""
        for one in self.paid.values():
            if one.state in ("out", "in hand", "queued"):
                one.state = "lost: killed"

    def spent_usd(self, step: int) -> float:
        return sum(one.cost_usd for one in self.paid.values() if one.step == step)

    def states(self) -> Counter[str]:
        """Count what became of all that was paid for."""
        return Counter(one.state for one in self.paid.values())

    def unwritten(self) -> list[str]:
        """Return the replies that no run may end before; of a pack that is split, the whole is written by and by."""
        return [one.id for one in self.paid.values() if one.state == "queued" and one.asked.kind != "pack"]

    def _of_entry(self, entry: StoredReply) -> Paid | None:
        """Give the request that brought *entry*, None for a row's part of a pack."""
        if not entry.raw:
            return None
        return self.paid[orjson.loads(entry.raw)["id"]]


def _item_of(text: bytes) -> str | None:
    """Give the row that a valid answer out of a pack names, None for an invalid one."""
    try:
        answer = orjson.loads(text)
    except ValueError:
        return text.split()[0].decode() if text.startswith(b"item-") else None
    if isinstance(answer, dict) and type(answer.get("score")) is int and isinstance(answer.get("item"), str):
        return str(answer["item"])
    return None

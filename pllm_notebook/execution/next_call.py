"""Items that leave a run's queue: calls that can be sent now, and answers found instead of sending their calls."""

from __future__ import annotations

from typing import NamedTuple

from pllm_notebook.execution.follow_ups import Content, FollowUp, UnreadReply
from pllm_notebook.execution.packing.packer import Pack

__all__ = ["FoundReply", "NextCall", "Tag"]

Tag = int | FollowUp | Pack
"""The purpose of a request: a call of the table by its index, a follow-up call, or a pack of several calls."""


class NextCall(NamedTuple):
    """A call that can be sent now.

    Attributes:
        key: Key of the call.
        content: Builds the bytes for the wire, given an output limit.
        size: Number of those bytes.
        tag: The purpose of the call.
        full_limit: Whether it needs the whole output limit of its spec, because it requests several answers at once
            and a cut would be noticed only in the first.
    """

    key: str
    content: Content
    size: int
    tag: Tag
    full_limit: bool = False


class FoundReply(NamedTuple):
    """An answer found instead of sending its call.

    Attributes:
        key: Key of the answer.
        reply: The answer.
        is_stored: Whether it is on disk. If it is still queued, it is put into the store again.
    """

    key: str
    reply: UnreadReply
    is_stored: bool

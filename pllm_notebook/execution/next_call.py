"""What leaves a run's queue: a call that can be sent now, or an answer that was found in place of sending its call."""

from __future__ import annotations

from typing import NamedTuple

from pllm_notebook.execution.follow_ups import Content, FollowUp, UnreadReply
from pllm_notebook.execution.packing.packer import Pack

__all__ = ["FoundReply", "NextCall", "Tag"]

Tag = int | FollowUp | Pack
"""What a request is for: a call of the table by its index, a follow-up call, or several calls in one."""


class NextCall(NamedTuple):
    """A call that can be sent now.

    Attributes:
        key: Of the call.
        content: Builds the bytes for the wire, with the output limit that it is given.
        size: Number of those bytes.
        tag: What it is for.
        full_limit: Whether it needs the whole output limit of its spec: it asks for several answers at once, of which
            only the first would be seen to be cut off.
    """

    key: str
    content: Content
    size: int
    tag: Tag
    full_limit: bool = False


class FoundReply(NamedTuple):
    """An answer that was found in place of sending its call.

    Attributes:
        key: Of the answer.
        reply: The answer.
        is_stored: Whether it is on disk; one that is still queued is put into the store again.
    """

    key: str
    reply: UnreadReply
    is_stored: bool

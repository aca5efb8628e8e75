"""Programs that ask: plain Python in which a model is input and output, under four strategies.

A session is a directory of answers, jobs and failures; agents ask in it, replies are lazy, and whether a value is
missing is one function's word (`retrieving.Place.retrieve`).
"""

from __future__ import annotations

from pllm_notebook.pipeline.agents import Agent
from pllm_notebook.pipeline.calls import Call
from pllm_notebook.pipeline.failing import ErrorResponse
from pllm_notebook.pipeline.functions import to_tool_schema
from pllm_notebook.pipeline.identities import LLMIdentity
from pllm_notebook.pipeline.ready import LLMResponse
from pllm_notebook.pipeline.replies import Reply
from pllm_notebook.pipeline.resuming import resume_directory
from pllm_notebook.pipeline.retrieving import Absent, Failed, Pending, Present
from pllm_notebook.pipeline.session import Session
from pllm_notebook.pipeline.states import MessageState
from pllm_notebook.pipeline.throttling import Throttler
from pllm_notebook.pipeline.tweaks import MinorTweaks

__all__ = [
    "Absent",
    "Agent",
    "Call",
    "ErrorResponse",
    "Failed",
    "LLMIdentity",
    "LLMResponse",
    "MessageState",
    "MinorTweaks",
    "Pending",
    "Present",
    "Reply",
    "Session",
    "Throttler",
    "resume_directory",
    "to_tool_schema",
]

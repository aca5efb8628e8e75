"""Resumable programs: plain Python that calls models through agents, under one of four strategies.

A session is a directory of answers, jobs and failures. Its agents make calls and get lazy replies. Only
`SessionStore.retrieve` decides whether an answer is missing.
"""

from __future__ import annotations

from pllm_notebook.sessions.agent import Agent
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.called_functions import to_tool_schema
from pllm_notebook.sessions.dashboard import STATES, AgentStatus, SessionDisplay, SessionStatus
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.lazy_reply import LazyReply
from pllm_notebook.sessions.llm_identity import LLMIdentity
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.sessions.message_state import MessageState
from pllm_notebook.sessions.minor_tweaks import MinorTweaks
from pllm_notebook.sessions.resume import resume_directory
from pllm_notebook.sessions.session import Session
from pllm_notebook.sessions.session_config import SessionConfig
from pllm_notebook.sessions.session_store import Absent, Failed, Pending, Present
from pllm_notebook.sessions.throttler import Throttler

__all__ = [
    "STATES",
    "Absent",
    "Agent",
    "AgentStatus",
    "Call",
    "ErrorResponse",
    "Failed",
    "LLMIdentity",
    "LLMResponse",
    "LazyReply",
    "MessageState",
    "MinorTweaks",
    "Pending",
    "Present",
    "Session",
    "SessionConfig",
    "SessionDisplay",
    "SessionStatus",
    "Throttler",
    "resume_directory",
    "to_tool_schema",
]

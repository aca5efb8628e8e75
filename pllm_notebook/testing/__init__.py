"""Test your own pipeline without a key, network or provider: `fake` scripts answers, `record` records them.

    with pllm.testing.fake({"Is a good?": True, "Is b good?": False}):
        out = df.llm.parse(bool, "Is {text} good?", model="openai:gpt-6-luna")

The pytest fixtures are `pllm_fake` and `pllm_recording`.
"""

from __future__ import annotations

from pllm_notebook.sim import SimAnswer as Answer
from pllm_notebook.sim import SimRequest as Request
from pllm_notebook.testing.recording import UnscriptedPromptError, record
from pllm_notebook.testing.scripted import Fake, fake

__all__ = ["Answer", "Fake", "Request", "UnscriptedPromptError", "fake", "record"]

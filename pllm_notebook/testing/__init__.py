"""Test a pipeline of your own without a key, a network or a provider: `fake` scripts answers, `record` records them.

    with pllm.testing.fake({"Is a good?": True, "Is b good?": False}):
        out = df.llm.parse(bool, "Is {text} good?", model="openai:gpt-6-luna")

As fixtures of pytest: `pllm_fake` and `pllm_record`.
"""

from __future__ import annotations

from pllm_notebook.sim import SimAnswer as Answer
from pllm_notebook.sim import SimRequest as Request
from pllm_notebook.testing.recording import UnscriptedPromptError, record
from pllm_notebook.testing.scripted import Fake, fake

__all__ = ["Answer", "Fake", "Request", "UnscriptedPromptError", "fake", "record"]

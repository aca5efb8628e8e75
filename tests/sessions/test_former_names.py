"""Names that have changed stay for one release."""

from __future__ import annotations

from pathlib import Path

import pllm_notebook as pllm


def test_former_names_of_a_session_return_what_the_new_ones_do(tmp_path: Path) -> None:
    with pllm.resume_directory(tmp_path / "program", model="openai:gpt-6-luna", strategy="batch") as session:
        agent = session.agent("one")

        assert session.terms is session.config
        assert session.questions == session.calls == []
        assert session.standing().counts == session.status().counts
        assert agent.asked == agent.calls == []


def test_a_reply_has_its_call_by_both_names(tmp_path: Path) -> None:
    session = pllm.resume_directory(tmp_path / "program", model="openai:gpt-6-luna", strategy="batch", confirm=False)

    reply = session.agent("one").ask_llm("Well?")

    assert reply.question is reply.session_call is session.calls[0]

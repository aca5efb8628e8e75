"""Tests of one's own pipeline that asks for probabilities: scripted and recorded answers of decision endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import Simulator
from pllm_notebook.testing import Answer, UnscriptedPromptError, fake, record

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|lacks? a field)")

TEXTS = pd.DataFrame({"text": ["tea", "mud"]})
MODELS = ["openai:gpt-6-luna", "google:gemini-3.8-flash", "jev:any", "sgl:any", "fire:any", "sim:openai"]
FORMATS = {"jev": "systemone", "sgl": "sglang", "fire": "openai"}


class Opinion(BaseModel):
    """An opinion."""

    good: bool
    why: Literal["taste", "look"] | None
    stars: Literal[1, 2, 3]


class Written(Opinion):
    """An opinion."""

    summary: str


VALUE = {"good": True, "why": None, "stars": 2, "summary": "Nice."}


def decided(kind: Any = Opinion, **options: Any) -> pd.DataFrame:
    given = {"model": "openai:gpt-6-luna", "probabilities": "decisions"} | options
    out: pd.DataFrame = TEXTS.llm.parse(kind, "Is {text} good?", **given)
    return out


@pytest.mark.parametrize("model", MODELS)
def test_every_decision_endpoint_answers_what_is_scripted_without_a_key(model: str) -> None:
    with fake(lambda request: VALUE) as asked:
        pllm.configure(servers=dict.fromkeys(FORMATS, "http://127.0.0.1:9/v1"), decision_formats=FORMATS)
        out = decided(Written, model=model)

    shown = out[list(VALUE)].astype(object)
    assert shown.where(shown.notna(), None).to_dict("records") == [VALUE, VALUE]
    assert sorted(asked.prompts) == ["Is mud good?", "Is tea good?", "mud", "tea"]
    assert out.llm.confidence[["good", "why", "stars"]].gt(0.5).all(axis=None)


def test_probabilities_are_scripted_beside_the_value() -> None:
    shares = {"good": {"true": 0.8, "false": 0.2}, "why": {"taste": 0.2, "look": 0.1, "Not stated.": 0.7}}

    with fake(lambda request: Answer.value(VALUE, probabilities=shares)):
        out = decided()

    assert out.llm.confidence[["good", "why"]].to_numpy().tolist() == [[0.8, 0.7]] * 2
    assert out["why"].isna().all()


def test_a_mapping_answers_the_input_and_the_prompt() -> None:
    answers = {"tea": VALUE, "mud": VALUE | {"good": False}, "Is tea good?": VALUE, "Is mud good?": VALUE}
    with fake(answers):
        out = decided(Written)

    assert out["good"].tolist() == [True, False]
    with pytest.raises(UnscriptedPromptError, match="'mud'"), fake({"tea": VALUE}):
        decided()


@pytest.mark.parametrize(("kind", "answer"), [(bool, True), (Literal["a", "b"], "b"), (list[Literal["a", "b"]], ["b"])])
def test_a_type_of_one_value_is_answered_by_the_value(kind: Any, answer: Any) -> None:
    with fake(lambda request: answer):
        out = decided(kind)

    assert out["answer"].tolist() == [answer] * 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"good": True, "why": None}, "The scripted answer has no value for the question 'stars'."),
        (VALUE | {"stars": 7}, "'stars' is 7, which is none of its options: 1, 2, 3."),
        (VALUE | {"good": None}, "'good' is None, which is none of its options: true, false."),
        ("a text", "'good' is 'a text', which is none of its options"),
        (Answer.truncated("{"), "so 'truncated' is no answer of one"),
        (Answer.tool_calls([("look", {})]), "so 'tool_calls' is no answer of one"),
    ],
)
def test_what_answers_no_question_is_an_error_at_the_end_of_the_block(
    answer: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    block = fake(lambda request: answer)
    block.__enter__()
    out = decided()

    with pytest.raises(UsageError) as caught:
        block.__exit__(None, None, None)

    assert said in str(caught.value)
    assert out["good"].isna().all()
    assert not [line for line in caplog.records if line.exc_info]


@pytest.mark.parametrize(
    ("model", "kinds"), [("openai:gpt-6-luna", ["refusal"]), ("google:gemini-3.8-flash", ["content_filter"])]
)
@pytest.mark.parametrize("answer", [Answer.refusal(), Answer.filtered()])
def test_an_endpoint_refuses_as_its_provider_does(model: str, kinds: list[str], answer: Answer) -> None:
    with fake(lambda request: answer):
        out = decided(model=model)

    assert out.llm.errors["kind"].unique().tolist() == kinds


def test_failures_of_decisions_are_scripted_too() -> None:
    with fake(lambda request: Answer.status(500) if request.index < 2 else VALUE) as asked:
        out = decided()

    assert out["good"].tolist() == [True, True]
    assert len(asked.requests) == 4


@pytest.mark.parametrize("probabilities", ["decisions", "logprobs"])
def test_a_recording_has_the_probabilities_too(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probabilities: str
) -> None:
    path = tmp_path / "answers.jsonl"
    options = {"probabilities": probabilities, "effort": "none"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    with record(path):
        first = decided(Written, **options)
    sent = sim.stats().requests
    with record(path):
        decided(Written, **options)
    monkeypatch.delenv("OPENAI_API_KEY")

    with fake(path) as asked:
        again = decided(Written, **options)

    assert again[list(VALUE)].equals(first[list(VALUE)])
    assert again.llm.confidence.equals(first.llm.confidence)
    assert len(path.read_text().splitlines()) == len(asked.requests) == sent == sim.stats().requests

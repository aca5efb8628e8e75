"""What was answered comes back as what was asked for, from every provider alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.exceptions import UnsupportedSchemaError, UsageError
from pllm_notebook.providers.anthropic.facts import DIALECT as ANTHROPIC
from pllm_notebook.providers.google.facts import DIALECT as GOOGLE
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, OutputType
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import words
from tests.contract.sides import EVERY_SIDE, Side, reach
from tests.schema.test_schema_zoo import REFUSED, dress
from tests.zoo import ZOO, ZooCase

DIALECTS = {dialect.name: dialect for dialect in (OPENAI, ANTHROPIC, GOOGLE, GRAMMAR)}
EVERY = [pytest.param(side, one, id=f"{side.id}-{one.id}") for side in EVERY_SIDE for one in ZOO]
FITTING = [param for param in EVERY if param.values[0].dialect not in REFUSED.get(param.values[1].id, {})]
REFUSING = [param for param in EVERY if param.values[0].dialect in REFUSED.get(param.values[1].id, {})]


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache and engine for all types: each is asked with a schema of its own, so none meets another's answer."""
    yield tmp_path_factory.mktemp("cache")
    engine.shutdown()


@pytest.mark.sample(80)
@pytest.mark.parametrize(("side", "one"), FITTING)
def test_a_value_of_any_type_comes_back_as_that_value(
    side: Side, one: ZooCase, sim: Simulator, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    pllm.configure(cache_dir=shared_cache, progress=False)
    fitted = OutputType.of(one.kind).fit(DIALECTS[side.dialect])
    answer = {"value": one.good} if fitted.wrapped else one.good
    sim.set(answers=lambda request: SimAnswer.value(dress(answer, fitted.schema, fitted.schema)))

    run = words("a", "b").llm.submit(one.kind, f"{one.id}: {{text}}", model=side.model)
    out = run.result()

    values = [run.explain(row).value for row in range(2)]
    assert values == [one.value, one.value]
    assert type(values[0]) is type(one.value)
    assert out.llm.status.tolist() == ["ok", "ok"]
    assert sim.stats().requests == 2


@pytest.mark.parametrize(("side", "one"), REFUSING)
def test_a_type_that_a_provider_cannot_express_is_refused_before_sending(
    side: Side, one: ZooCase, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)

    with pytest.raises(UnsupportedSchemaError) as caught:
        words("a").llm.parse(one.kind, "{text}", model=side.model)

    assert caught.value.field == REFUSED[one.id][side.dialect]
    assert str(caught.value).endswith("Nothing was sent.")
    assert sim.stats().requests == 0


def test_text_comes_back_as_it_was_written(side: Side, sim: Simulator) -> None:
    written = 'Zeile\n"quoted" \U0001f600 \u4f60\u597d  '
    sim.set(answers=lambda request: written + request.prompt)

    out = words("a", "b").llm.complete("say {text}", model=side.model)

    assert out["answer"].tolist() == [written + "say a", written + "say b"]
    assert out["answer"].dtype == "string"


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_reply_without_text_is_asked_again_unless_it_may_be_the_answer(side: Side, sim: Simulator) -> None:
    said = iter(("", "yes", ""))
    sim.set(answers=lambda request: next(said))

    out = words("a").llm.complete("say {text}", model=side.model)
    again = words("a").llm.complete("say {text}", model=side.model)
    taken = words("a").llm.complete("say {text}", model=side.model, salt="2", allow_empty=True)
    known = words("a").llm.complete("say {text}", model=side.model, salt="2", allow_empty=True)

    assert out.llm.errors[["kind", "status"]].to_numpy().tolist() == [["empty", 200]]
    assert again["answer"].tolist() == ["yes"]
    assert taken["answer"].tolist() == [""]
    assert known.llm.status.tolist() == ["cached"]
    assert sim.stats().requests == 3


def test_a_type_that_takes_null_takes_a_reply_without_text(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "")

    out = words("a").llm.parse(str | None, "say {text}", model=side.model)

    assert out.llm.status.tolist() == ["ok"]
    assert out["answer"].isna().tolist() == [True]


def test_the_instruction_and_the_prompt_reach_the_model(side: Side, sim: Simulator) -> None:
    seen: list[tuple[str, str, str]] = []

    def answer(request: Any) -> str:
        seen.append((request.system, request.prompt, request.model))
        return "yes"

    sim.set(answers=answer)

    words("a").llm.complete("say {text}", model=side.model, system="Be brief.")

    assert seen == [("Be brief.", "say a", side.name)]


def test_without_a_prompt_the_docstring_instructs_and_the_row_is_the_data(side: Side, sim: Simulator) -> None:
    class Fact(BaseModel):
        """Say what is stated."""

        name: str

    seen: list[tuple[str, str]] = []

    def answer(request: Any) -> Any:
        seen.append((request.system.partition("\n")[0], request.prompt))
        return {"name": "n"}

    sim.set(answers=answer)
    frame = pd.DataFrame({"text": ["a"], "n": [1], "none": [None]})

    out = frame.llm.parse(Fact, model=side.model)

    assert seen == [("Say what is stated.", '{"text":"a","n":1,"none":null}')]
    assert out["name"].tolist() == ["n"]


def test_fields_of_the_callers_own_go_into_the_body(side: Side, sim: Simulator) -> None:
    fields: dict[str, dict[str, Any]] = {"anthropic": {"stop_sequences": ["x"]}, "google": {"labels": {"a": "b"}}}
    given = fields.get(side.wire, {"metadata": {"team": "a"}})

    words("a").llm.complete("say {text}", model=side.model, extra_body=given)

    (request,) = sim.requests()
    assert {name: request["body"][name] for name in given} == given


@pytest.mark.parametrize("row", [99, 2, -3, "a", True, 1.0, None])
def test_a_row_that_is_not_there_is_a_usage_error(row: Any, luna: str, sim: Simulator) -> None:
    out = pd.DataFrame({"t": ["a", "b"]}).llm.parse(bool, "{t}", model=luna)

    for whole, explain in [("frame", out.llm.explain), ("run", pllm.runs()[-1].explain)]:
        why = rf"(There is no row .*: the {whole} has 2|A row is named by its position).* sent\.$"
        with pytest.raises(UsageError, match=why):
            explain(row)
    assert out.llm.explain(-1).position == 1

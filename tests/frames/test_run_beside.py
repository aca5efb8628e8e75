"""`run.to_frame(df)` puts a run's answers beside other rows of the same content, in every library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest
from tests.contract.scripts import words

from .frame_libraries import FrameKit

UNKNOWN = r"The run \w+ was not asked about 1 row of this frame: NA in its columns\."


class Length(BaseModel):
    length: int


class Letters(BaseModel):
    letters: list[str]


@pytest.fixture(autouse=True)
def ready(cache_dir: Path) -> None:
    def answer(request: SimRequest) -> Any:
        if request.prompt == "bad":
            return SimAnswer.refusal("no")
        word = request.prompt
        return {"letters": list(word)} if "letters" in str(request.schema) else {"length": len(word)}

    pllm.configure(sim={"answers": answer}, model="sim:openai")


def asked(frame: Any, kit: FrameKit, kind: type[BaseModel] = Length, **options: Any) -> pllm.Run:
    run: pllm.Run = kit.llm(frame).submit(kind, "{text}", **options)
    run.wait()
    return run


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_rows_get_the_answers_to_their_content_whatever_their_order(kit: FrameKit) -> None:
    run = asked(kit.frame({"text": ["a", "bb", "bad", "a"]}), kit, error_column="why")

    with pytest.warns(UserWarning, match=UNKNOWN):
        out = run.to_frame(kit.frame({"n": [1, 2, 3, 4, 5], "text": ["bad", "bb", "new", "a", "bb"]}))

    assert kit.column(out, "length") == [None, 2, None, 1, 2]
    assert kit.column(out, "why") == ["refusal: The model refused: no.", None, None, None, None]
    assert kit.names(out) == ["n", "text", "length", "why"]


def test_the_runs_own_rows_give_its_result(kit: FrameKit) -> None:
    frame = kit.frame({"text": ["a", "bb"]})
    run = asked(frame, kit)

    assert kit.rows(run.to_frame(frame)) == kit.rows(run.result())


def test_each_item_is_a_line_where_it_was_one(kit: FrameKit) -> None:
    run = asked(kit.frame({"text": ["ab", "c"]}), kit, Letters, explode="letters")

    with pytest.warns(UserWarning, match=UNKNOWN):
        out = run.to_frame(kit.frame({"text": ["c", "new", "ab"]}))

    assert kit.column(out, "text") == ["c", "new", "ab", "ab"]
    assert kit.column(out, "letters") == ["c", None, "a", "b"]


def test_a_run_of_one_library_answers_a_frame_of_another(kit: FrameKit) -> None:
    run: Any = words("a", "bb").llm.submit(Length, "{text}")
    run.wait()

    out = run.to_frame(kit.frame({"text": ["bb", "a"]}))

    assert kit.column(out, "length") == [2, 1]


def test_samples_stand_beside_the_rows_too(kit: FrameKit) -> None:
    run = asked(kit.frame({"text": ["a", "bb"]}), kit, samples=2, agreement_column="agree")

    with pytest.warns(UserWarning, match=UNKNOWN):
        out = run.to_frame(kit.frame({"text": ["bb", "new"]}))

    assert (kit.column(out, "length"), kit.column(out, "agree")) == ([2, None], [1.0, None])


def test_tools_that_were_called_stand_beside_the_rows(kit: FrameKit) -> None:
    def find(word: str) -> None:
        """Find a word."""

    pllm.configure(sim={"answers": lambda request: SimAnswer.tool_calls([("find", {"word": request.prompt})])})
    run = pllm.frame(kit.frame({"text": ["a", "bb"]})).submit_calls([find], "{text}")
    run.wait()

    with pytest.warns(UserWarning, match=UNKNOWN):
        out = run.to_frame(kit.frame({"text": ["bb", "new"]}))

    assert kit.column(out, "tool") == ["find", None]


def test_a_run_that_goes_gives_what_it_has_and_one_that_was_let_go_the_same(kit: FrameKit) -> None:
    frame, other = kit.frame({"text": ["a", "bb"]}), kit.frame({"text": ["new", "bb"]})
    run = kit.llm(frame).submit(Length, "{text}")
    assert set(kit.column(run.to_frame(frame), "length")) <= {1, 2, None}
    run.result()
    with pytest.warns(UserWarning, match=UNKNOWN):
        live = run.to_frame(other)

    run_registry.forget_all()
    recorded = pllm.run(run.id)

    with pytest.warns(UserWarning, match=UNKNOWN):
        again = recorded.to_frame(other)
    assert (kit.dtypes(again), kit.rows(again)) == (kit.dtypes(live), kit.rows(live))
    assert type(recorded) is not type(run)


def test_the_views_of_the_frame_are_of_its_own_rows(kit: FrameKit) -> None:
    run = asked(kit.frame({"text": ["a", "bb"]}), kit)

    with pytest.warns(UserWarning, match=UNKNOWN) as shown:
        out = run.to_frame(kit.frame({"text": ["new", "bb"]}))

    assert [warning.filename for warning in shown] == [__file__]
    assert kit.values(kit.llm(out).status) == [None, "ok"]


def test_rows_that_were_never_asked_are_an_error(kit: FrameKit) -> None:
    frame = kit.frame({"text": ["a"]})
    run = asked(frame, kit)

    with pytest.raises(PllmError, match="No row of this frame has the content"):
        run.to_frame(kit.frame({"text": ["new"]}))
    with pytest.raises(PllmError, match=r"asked about \['text'\], and \['text'\] is not in this frame"):
        run.to_frame(kit.rename(frame, "text", "t"))
    with pytest.raises(NameClashError):
        run.to_frame(kit.put(frame, "length", [7]))
    with pytest.raises(UsageError, match="takes a DataFrame or a Series, not list"):
        run.to_frame(["a"])

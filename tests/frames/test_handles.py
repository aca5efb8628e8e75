"""What a notebook and a console show of `df.llm`, `out.llm`, a session, and failed rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit, Texts

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

HOSTILE = "<script>alert(1)</script>"


class Mark(BaseModel):
    """Mark the text."""

    mark: int


@pytest.fixture
def ready(cache_dir: Path) -> Iterator[Path]:
    def answer(request: SimRequest) -> Any:
        return SimAnswer.refusal(f"No. {HOSTILE}") if "bad" in request.prompt else {"mark": 1}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    run_registry.forget_all()
    yield cache_dir
    run_registry.forget_all()


def test_a_frame_shows_what_can_be_asked_of_it(ready: Path, texts: Texts) -> None:
    shown, text = texts("a", HOSTILE)._repr_html_(), repr(texts("a"))

    for call in (".estimate(Model, prompt)", ".preview(Model, prompt)", ".parse(Model, prompt)", "help(df.llm.parse)"):
        assert call in shown
        assert call in text
    assert "2 rows, 1 column: t" in shown
    assert "Model: sim:openai" in shown
    assert len(text.splitlines()) <= 12
    assert "{t}" in text


def test_a_column_shows_only_what_a_column_can(ready: Path, kit: FrameKit) -> None:
    shown = kit.llm(kit.series(["a"], "t"))._repr_html_()

    assert ".parse(Model, prompt)" in shown
    assert ".decide" not in shown


def test_a_result_shows_its_run_its_counts_and_what_to_call_next(ready: Path, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "b", "bad").parse(Mark, f"{HOSTILE}{{t}}"))

    shown, text = out._repr_html_(), repr(out)

    assert "SIMULATED" in shown
    assert "SIMULATED" in text
    assert "2 ok, 1 failed" in text
    assert "why 1 row failed, by kind, and whether asking again helps" in text
    assert f"pllm.run({out.run.id!r})" in text
    assert HOSTILE not in shown


def test_errors_begin_with_their_kinds_whole_messages_and_what_a_retry_costs(
    ready: Path, kit: FrameKit, texts: Texts
) -> None:
    out = kit.llm(texts("a", "bad one", "bad two", "bad three").parse(Mark, "{t}"))

    errors = out.errors

    text = repr(errors)
    if kit.name == "arrow":
        return  # its tables cannot be anything else
    assert text.startswith("3 rows: refusal: ")
    assert "run.retry(kinds=['refusal']) pays for these again, for about $0.0" in text
    assert HOSTILE in text.splitlines()[0]
    shown = errors._repr_html_()
    assert HOSTILE not in shown
    assert shown.index("refusal") < shown.index("position")
    assert "retry" not in repr(errors[["kind"]])


def test_errors_of_a_run_of_an_earlier_kernel_begin_with_their_kinds(ready: Path, texts: Texts, kit: FrameKit) -> None:
    run = kit.llm(texts("a", "bad").parse(Mark, "{t}")).run.id
    run_registry.forget_all()

    assert repr(pllm.run(run).errors).startswith("1 row: refusal: ")


def test_errors_without_a_failure_are_an_empty_frame(ready: Path, kit: FrameKit, texts: Texts) -> None:
    errors = kit.llm(texts("a").parse(Mark, "{t}")).errors

    assert kit.rows(errors) == []
    assert "position" in kit.names(errors)
    assert "rows:" not in repr(errors)


def test_an_explanation_has_the_messages_as_text_and_folds_json(ready: Path, kit: FrameKit, texts: Texts) -> None:
    out = texts(HOSTILE).parse(Mark, "Mark {t}", system="Be brief.")

    explained = kit.llm(out).explain(0)

    assert explained.messages == [("system", "Be brief."), ("user", f"Mark {HOSTILE}")]
    shown = explained._repr_html_()
    assert shown.index("tokens") < shown.index("Be brief.") < shown.index("<details><summary>reply")
    assert "<details><summary>body" in shown
    assert HOSTILE not in shown


def test_a_session_shows_its_calls_its_cost_and_what_to_call_next(tmp_path: Path) -> None:
    with pllm.resume_directory(str(tmp_path / "notes")) as session:
        shown = session._repr_html_()

    assert "notes" in shown
    assert "none yet" in shown
    assert "dashboard()" in shown


def test_configure_shows_nothing() -> None:
    assert pllm.configure() is None  # type: ignore[func-returns-value]  # what a cell would show

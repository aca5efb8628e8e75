"""What a result does to a frame, and what `.llm` says of frames that were changed since: the truth of each row."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, PllmError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

# No list: what the function of the simulator refers to is a part of its calls' keys, where JSON can hold it.
Sent = deque[str]


class Label(BaseModel):
    """Label the text."""

    category: Literal["short", "long"]
    size: int


class Other(BaseModel):
    """Say it again."""

    echo: str


@pytest.fixture
def sent(cache_dir: object) -> Sent:
    """Answer from the prompt alone, so that the truth of each row is known; refuse what begins with "-"."""
    sent: Sent = deque()

    def answer(request: SimRequest) -> Any:
        said = request.messages[-1][1]
        sent.append(said)
        if said.startswith("-"):
            return SimAnswer.refusal()
        properties = (request.schema or {}).get("properties", {})
        if "category" in properties:
            return {"category": "long" if len(said) > 3 else "short", "size": len(said)}
        return {"echo": said} if "echo" in properties else f"said {said}"

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    return sent


def texts(*values: str) -> pd.DataFrame:
    return pd.DataFrame({"t": list(values), "n": range(len(values))})


def stored(frame: pd.DataFrame) -> pd.DataFrame:
    """Write a frame to Parquet and read it again."""
    return pd.read_parquet(io.BytesIO(frame.to_parquet()))


def in_other_dtypes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of the same values, with the dtypes that pandas finds for them."""
    there = frame.astype(object).convert_dtypes()
    there.attrs = {}
    return there


# A result is the input's columns and the new ones.


def test_a_column_that_a_run_made_is_data_of_the_next(sent: Sent) -> None:
    summarised = texts("a", "bbbb").llm.complete("{t}", column="summary")

    out = summarised.llm.parse(Label, "{summary}")

    assert list(out.columns) == ["t", "n", "summary", "category", "size"]
    assert out["summary"].tolist() == ["said a", "said bbbb"]
    assert sorted(list(sent)[2:]) == ["said a", "said bbbb"]


def test_a_second_type_leaves_the_columns_of_the_first(sent: Sent) -> None:
    frame = texts("a", "bbbb")
    frame = frame.llm.parse(Label, "{t}")
    frame = frame.llm.parse(Other, "{t}")
    frame = frame.llm.parse(Other, "{t}", prefix="again_")

    assert list(frame.columns) == ["t", "n", "category", "size", "echo", "again_echo"]
    assert frame["size"].tolist() == [1, 4]


@pytest.mark.parametrize("prompt", ["{t}", None])
def test_a_cell_can_be_run_again_and_sends_nothing(sent: Sent, prompt: str | None) -> None:
    frame = texts("a", "bbbb", "-")
    frame = frame.llm.parse(Label, prompt)
    first, asked = frame.copy(), len(sent)

    for _ in range(2):
        frame = frame.llm.parse(Label, prompt)

    pd.testing.assert_frame_equal(frame, first)
    assert len(sent) == asked


def test_an_edited_prompt_replaces_the_answers_of_the_earlier_one(sent: Sent) -> None:
    frame = texts("a", "bbbb").llm.parse(Label, "{t}")

    frame = frame.llm.parse(Label, "Now {t}")

    assert list(frame.columns) == ["t", "n", "category", "size"]
    assert frame["size"].tolist() == [5, 8]


def test_without_a_prompt_every_column_that_stays_is_data(sent: Sent) -> None:
    frame = texts("a").llm.complete("{t}", column="summary")

    frame.llm.parse(Label)

    assert sent[-1] == '{"t":"a","n":0,"summary":"said a"}'


def test_a_corrected_column_is_not_replaced_unasked(sent: Sent) -> None:
    frame = texts("a", "bbbb").llm.parse(Label, "{t}")
    frame.loc[1, "category"] = "short"
    asked = len(sent)

    told = (
        r"The result has columns \['category'\], and the frame already has columns of those names, whose values are "
        r"not, unchanged, the answers of an earlier run, and would be lost; replace=True replaces them. Give "
        r"prefix='llm_' \(or another\) to set the results apart. Nothing was sent."
    )
    with pytest.raises(NameClashError, match=told):
        frame.llm.parse(Label, "Now {t}")

    assert len(sent) == asked
    assert frame.llm.parse(Label, "{t}", replace=True)["category"].tolist() == ["short", "long"]


def test_the_callers_own_column_is_not_replaced_unasked(sent: Sent) -> None:
    frame = texts("a").assign(size=3)

    with pytest.raises(NameClashError):
        frame.llm.parse(Label, "{t}")

    assert not sent


def test_answers_beside_a_text_that_was_changed_are_not_replaced_unasked(sent: Sent) -> None:
    frame = texts("a", "bbbb").llm.parse(Label, "{t}")
    frame.loc[0, "t"] = "another"

    with pytest.raises(NameClashError):
        frame.llm.parse(Label, "{t}")


@pytest.mark.parametrize(
    "change",
    [
        lambda out: pd.concat([out.iloc[:1], out.iloc[1:]]),
        lambda out: out.merge(pd.DataFrame({"n": [0, 1, 2], "w": 1}), on="n"),
        lambda out: stored(out),
        lambda out: in_other_dtypes(out),
        lambda out: pd.concat([out, texts("new")], ignore_index=True),
        lambda out: out.sample(frac=1, random_state=1).reset_index(drop=True),
    ],
    ids=["concat", "merge", "stored", "other dtypes", "new rows", "shuffled"],
)
@pytest.mark.parametrize("kernel", ["same", "new"])
def test_answers_are_known_again_wherever_they_went(
    sent: Sent, change: Callable[[pd.DataFrame], pd.DataFrame], kernel: str
) -> None:
    out = texts("a", "bbbb", "cc").llm.parse(Label, "{t}")
    changed = change(out)
    if kernel == "new":
        run_registry.forget_all()

    again = changed.llm.parse(Label, "{t}")

    assert list(again.columns).count("size") == 1
    assert again["size"].tolist() == [len(text) for text in again["t"]]


def test_the_columns_of_calls_and_of_lists_can_be_asked_for_again(sent: Sent) -> None:
    pllm.configure(sim={"answers": lambda request: request.prompt.split()})
    frame = texts("a b", "c")

    once = frame.llm.parse(list[str], "{t}", explode=True)
    twice = once.llm.parse(list[str], "{t}", explode=True)

    assert once["answer"].tolist() == ["a", "b", "c"]
    assert twice["answer"].tolist() == ["a", "b", "a", "b", "c"]


# A run owns what it pairs.


def test_an_input_that_is_changed_meanwhile_does_not_move_an_answer(sent: Sent) -> None:
    frame = texts("dddd", "a", "bb")
    run = frame.llm.submit(Label, "{t}")

    frame.sort_values("t", inplace=True)
    frame.loc[1, "t"] = "changed"
    frame.drop(index=0, inplace=True)
    out = run.result()

    assert out["t"].tolist() == ["dddd", "a", "bb"]
    assert out["size"].tolist() == [4, 1, 2]
    pd.testing.assert_frame_equal(pllm.runs()[-1].to_frame(), out)


# What is said of a frame is said of its rows.


def test_a_shuffled_frame_is_evaluated_by_its_own_values(sent: Sent) -> None:
    frame = texts("a", "bbbb", "cc", "dddddd", "e", "ffffffff").assign(label=["short", "long"] * 3)
    out = frame.llm.parse(Label, "{t}")

    shuffled = out.sample(frac=1, random_state=3).reset_index(drop=True)

    assert shuffled.llm.evaluate(against="label", field="category").accuracy == 1
    shuffled.loc[0, "category"] = "long" if shuffled.loc[0, "label"] == "short" else "short"
    assert shuffled.llm.evaluate(against="label", field="category").accuracy == pytest.approx(5 / 6)


def test_a_filtered_frame_has_the_status_of_its_own_rows(sent: Sent) -> None:
    out = texts("a", "-", "bbbb", "-x").llm.parse(Label, "{t}")

    part = out[out["n"] >= 2].sort_values("n", ascending=False)

    assert part.llm.status.to_dict() == {3: "failed", 2: "ok"}
    assert part.llm.errors[["position", "label", "kind", "prompt"]].to_numpy().tolist() == [[0, 3, "refusal", "-x"]]
    assert part.llm.explain(1).prompt == "bbbb"
    assert part.llm.usage["attempts"].tolist() == [1, 1]


def test_a_retry_does_not_make_the_old_frame_right(sent: Sent) -> None:
    out = texts("a", "-").llm.parse(Label, "{t}")
    run = out.llm.run
    pllm.configure(sim={"answers": lambda request: {"category": "short", "size": 7}})

    new = run.retry(kinds=["refusal"]).result()

    assert out.llm.status.tolist() == ["ok", "changed"]
    assert new.llm.status.tolist() == ["ok", "ok"]


def test_a_corrected_answer_is_told_as_changed(sent: Sent) -> None:
    out = texts("a", "bbbb").llm.parse(Label, "{t}")

    out.loc[0, "size"] = 99

    assert out.llm.status.tolist() == ["changed", "ok"]


def test_a_changed_cell_is_of_no_run(sent: Sent) -> None:
    out = texts("a", "bbbb").llm.parse(Label, "{t}")

    out.loc[0, "t"] = "other"

    assert out.llm.status.isna().tolist() == [True, False]
    assert out.llm.usage["attempts"].isna().tolist() == [True, False]
    with pytest.raises(PllmError, match="No known run made row 0 of this frame"):
        out.llm.explain(0)


def test_a_renamed_input_is_refused_by_the_name_of_the_run(sent: Sent) -> None:
    out = texts("a").llm.parse(Label, "{t}")

    with pytest.raises(PllmError, match=rf"\['t'\] is no longer in it.*pllm.run\('{out.attrs['pllm_run']}'\)"):
        _ = out.rename(columns={"t": "text"}).llm.status


def test_attrs_that_came_with_other_rows_are_not_believed(sent: Sent) -> None:
    out = texts("a", "bbbb").llm.parse(Label, "{t}")
    others = pd.DataFrame({"t": ["x", "y"], "n": [1, 2]})
    others.attrs = dict(out.attrs)

    with pytest.raises(PllmError, match="No row of this frame has the content"):
        _ = others.llm.status


def test_chunks_that_are_put_together_are_told_row_by_row(sent: Sent) -> None:
    parts = [texts("a", "-").llm.parse(Label, "{t}"), texts("bbbb", "-y").llm.parse(Label, "{t}")]

    whole = pd.concat(parts, ignore_index=True)

    assert whole.llm.status.tolist() == ["ok", "failed", "ok", "failed"]
    assert whole.llm.errors["prompt"].tolist() == ["-", "-y"]
    with pytest.raises(PllmError, match="Several runs made"):
        _ = whole.llm.run


def test_samples_and_agreement_follow_the_rows(sent: Sent) -> None:
    out = texts("a", "bbbb", "cc").llm.parse(Label, "{t}", samples=3)

    part = out.iloc[[2, 0]]

    assert part.llm.samples["size"].tolist() == [2, 2, 2, 1, 1, 1]
    assert part.llm.samples["label"].tolist() == [2, 2, 2, 0, 0, 0]
    assert part.llm.agreement.index.tolist() == [2, 0]
    run_registry.forget_all()
    assert part.llm.agreement["whole_answer"].tolist() == [1, 1]
    assert part.llm.samples["size"].tolist() == [2, 2, 2, 1, 1, 1]


def test_lines_of_exploded_answers_are_told_by_their_rows(sent: Sent) -> None:
    pllm.configure(sim={"answers": lambda request: request.prompt.split()})
    out = texts("a b", "c").llm.parse(list[str], "{t}", explode=True)

    out.iloc[0, out.columns.get_loc("answer")] = "z"

    assert out.llm.status.tolist() == ["changed", "ok", "ok"]
    assert [out.llm.explain(row).prompt for row in range(3)] == ["a b", "a b", "c"]


def test_columns_that_decide_are_told_by_their_rows(sent: Sent) -> None:
    frame = pd.DataFrame({"q": ["one", "two"], "a": ["x", "y"], "b": ["x", "y"]})
    out = frame.llm.decide(["a", "b"], "{q}")

    assert out.iloc[::-1].llm.status.tolist() == ["skipped", "skipped"]
    assert list(out.llm.decide(["a", "b"], "{q}").columns) == list(out.columns)


# In a new kernel.


def test_an_earlier_kernels_run_tells_of_its_rows(sent: Sent) -> None:
    out = texts("a", "-", "bbbb").llm.parse(Label, "{t}")
    live = (out.llm.status.tolist(), out.llm.usage, out.llm.errors)
    run_registry.forget_all()

    part = out.iloc[::-1]

    assert part.llm.status.tolist() == live[0][::-1]
    answered = ["input_tokens", "output_tokens", "cost_usd", "latency_s", "attempts"]
    pd.testing.assert_frame_equal(part.llm.usage.loc[[0, 2], answered], live[1].loc[[0, 2], answered])
    assert part.llm.errors["kind"].tolist() == ["refusal"]
    assert part.llm.explain(0).prompt == "bbbb"
    assert part.llm.explain(0).reply["object"] == "chat.completion"
    assert out.llm.evaluate(pd.Series(["short", "long", "long"]), field="category").accuracy == 1


def test_a_process_of_its_own_knows_the_rows(sent: Sent, cache_dir: Path, tmp_path: Path) -> None:
    out = texts("a", "-", "bbbb").llm.parse(Label, "{t}")
    out.to_pickle(tmp_path / "out.pickle")
    script = f"""
        import pandas as pd, pllm_notebook as pllm
        pllm.configure(cache_dir={str(cache_dir)!r})
        out = pd.read_pickle({str(tmp_path / "out.pickle")!r}).iloc[::-1]
        out.attrs = {{}}
        print(out.llm.status.tolist(), pllm.runs()[-1].id, out.llm.run.state, out.llm.usage["attempts"].tolist())
    """

    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.stdout == f"['ok', 'failed', 'ok'] {out.attrs['pllm_run']} done [1, <NA>, 1]\n"


# Whatever is done to a frame.


def _operations(frame: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    size = len(frame)
    match name:
        case "filter":
            return frame[frame["n"] % 3 != seed % 3]
        case "sort":
            return frame.sort_values("t", ascending=bool(seed % 2), kind="stable")
        case "sample":
            return frame.sample(n=min(size, 5), replace=True, random_state=seed)
        case "reset_index":
            return frame.reset_index(drop=True)
        case "concat":
            return pd.concat([frame, frame.iloc[: seed % 3]], ignore_index=bool(seed % 2))
        case "new rows":
            return pd.concat([frame, pd.DataFrame({"t": [f"x{seed}"], "n": [seed]})])
        case "merge":
            return frame.merge(pd.DataFrame({"n": range(12), f"w{seed}": 1}), on="n", how="left")
        case "assign":
            return frame.assign(extra=seed)
        case "head":
            return frame.head(4)
        case "copy":
            return frame.copy()
        case "other dtypes":
            return in_other_dtypes(frame)
        case "change a text":
            if size:
                frame.iloc[seed % size, frame.columns.get_loc("t")] = f"y{seed}"
            return frame
        case "change an answer":
            if size and "size" in frame:
                frame = frame.copy()
                frame.iloc[seed % size, frame.columns.get_loc("size")] = 1_000 + seed
            return frame
        case "stored":
            there = stored(frame)
            there.attrs = dict(frame.attrs) if seed % 2 else {}
            return there
        case _:
            run_registry.forget_all()
            return frame


NAMES = ("filter", "sort", "sample", "reset_index", "concat", "new rows", "merge", "assign", "head", "copy",
         "change a text", "change an answer", "stored", "other dtypes", "new process")  # fmt: skip
RUNS = ("label", "echo", "labelled again")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    runs=st.lists(st.sampled_from(RUNS), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 9)), max_size=6),
)
def test_every_view_tells_the_truth_of_its_row_or_refuses(
    sent: Sent, runs: list[str], steps: list[tuple[str, int]]
) -> None:
    run_registry.forget_all()
    pllm.runs.clear()
    frame = texts("a", "bbbb", "-", "cc", "bbbb", "-z", "dddddd")
    asked: set[str] = set()
    for run in runs:
        frame = _ask(frame, run)
        asked |= set(frame["t"])
    last = runs[-1]
    prompt = "Now {}" if last == "labelled again" else "{}"
    for name, seed in steps:
        frame = _operations(frame, name, seed)

    try:
        status = frame.llm.status
    except PllmError:
        assert not len(frame) or not set(frame["t"]) & asked or frame.attrs.get("pllm_run") is None
        return
    errors, usage = frame.llm.errors, frame.llm.usage

    assert status.index.equals(frame.index)
    assert usage.index.equals(frame.index)
    failed = set(errors["position"])
    for position, text in enumerate(frame["t"]):
        word = status.iloc[position]
        if pd.isna(word):
            assert text not in asked or not _has_answer(frame, last, position)
            continue
        assert text in asked
        truth = "failed" if prompt.format(text).startswith("-") else "answered"
        if word == "changed":
            assert not _is_true(frame, last, position, prompt.format(text))
        else:
            assert (word == "failed") == (truth == "failed")
        assert (position in failed) == (truth == "failed")
        assert frame.llm.explain(position).prompt == prompt.format(text)
    again = _ask(frame.drop(columns=["size", "category"], errors="ignore"), "label")
    assert again["size"].isna().tolist() == [text.startswith("-") for text in again["t"]]


def _ask(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    if run == "echo":
        return frame.llm.parse(Other, "{t}")
    return frame.llm.parse(Label, "Now {t}" if run == "labelled again" else "{t}")


def _has_answer(frame: pd.DataFrame, run: str, position: int) -> bool:
    column = "echo" if run == "echo" else "size"
    return column in frame and bool(pd.notna(frame[column].iloc[position]))


def _is_true(frame: pd.DataFrame, run: str, position: int, prompt: str) -> bool:
    if prompt.startswith("-"):
        return not _has_answer(frame, run, position)
    if run == "echo":
        return bool(_has_answer(frame, run, position) and frame["echo"].iloc[position] == prompt)
    return bool(_has_answer(frame, run, position) and frame["size"].iloc[position] == len(prompt))

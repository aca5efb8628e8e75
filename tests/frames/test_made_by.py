"""What a result does to a frame, and what `.llm` says of frames that were changed since: the truth of each row."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, PllmError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.libraries import table_of

from .frame_libraries import FrameKit
from .known_answers import Label, Other, Sent

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


Texts = Callable[..., Any]


@pytest.fixture
def texts(kit: FrameKit) -> Texts:
    """Make a frame of texts, in each library."""
    return lambda *values: kit.frame({"t": list(values), "n": list(range(len(values)))})


# A result is the input's columns and the new ones.


def test_a_column_that_a_run_made_is_data_of_the_next(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    summarised = kit.llm(texts("a", "bbbb")).complete("{t}", column="summary")

    out = kit.llm(summarised).parse(Label, "{summary}")

    assert kit.names(out) == ["t", "n", "summary", "category", "size"]
    assert kit.column(out, "summary") == ["said a", "said bbbb"]
    assert sorted(list(sent)[2:]) == ["said a", "said bbbb"]


def test_a_second_type_leaves_the_columns_of_the_first(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    frame = texts("a", "bbbb")
    frame = kit.llm(frame).parse(Label, "{t}")
    frame = kit.llm(frame).parse(Other, "{t}")
    frame = kit.llm(frame).parse(Other, "{t}", prefix="again_")

    assert kit.names(frame) == ["t", "n", "category", "size", "echo", "again_echo"]
    assert kit.column(frame, "size") == [1, 4]


@pytest.mark.parametrize("prompt", ["{t}", None])
def test_a_cell_can_be_run_again_and_sends_nothing(sent: Sent, kit: FrameKit, texts: Texts, prompt: str | None) -> None:
    frame = kit.llm(texts("a", "bbbb", "-")).parse(Label, prompt)
    first, asked = frame, len(sent)

    for _ in range(2):
        frame = kit.llm(frame).parse(Label, prompt)

    assert kit.rows(frame) == kit.rows(first)
    assert kit.dtypes(frame) == kit.dtypes(first)
    assert len(sent) == asked


def test_an_edited_prompt_replaces_the_answers_of_the_earlier_one(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    frame = kit.llm(texts("a", "bbbb")).parse(Label, "{t}")

    frame = kit.llm(frame).parse(Label, "Now {t}")

    assert kit.names(frame) == ["t", "n", "category", "size"]
    assert kit.column(frame, "size") == [5, 8]


def test_without_a_prompt_every_column_that_stays_is_data(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    frame = kit.llm(texts("a")).complete("{t}", column="summary")

    kit.llm(frame).parse(Label)

    assert sent[-1] == '{"t":"a","n":0,"summary":"said a"}'


def test_a_corrected_column_is_not_replaced_unasked(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    frame = kit.llm(texts("a", "bbbb")).parse(Label, "{t}")
    frame = kit.put(frame, "category", ["short", "short"])
    asked = len(sent)

    told = (
        r"The result has columns \['category'\], and the frame already has columns of those names, whose values are "
        r"not, unchanged, the answers of an earlier run, and would be lost; replace=True replaces them. Give "
        r"prefix='llm_' \(or another\) to set the results apart. Nothing was sent."
    )
    with pytest.raises(NameClashError, match=told):
        kit.llm(frame).parse(Label, "Now {t}")

    assert len(sent) == asked
    assert kit.column(kit.llm(frame).parse(Label, "{t}", replace=True), "category") == ["short", "long"]


def test_the_callers_own_column_is_not_replaced_unasked(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    frame = kit.put(texts("a"), "size", [3])

    with pytest.raises(NameClashError):
        kit.llm(frame).parse(Label, "{t}")

    assert not sent


def test_answers_beside_a_text_that_was_changed_are_not_replaced_unasked(
    sent: Sent, kit: FrameKit, texts: Texts
) -> None:
    frame = kit.llm(texts("a", "bbbb")).parse(Label, "{t}")
    frame = kit.put(frame, "t", ["another", "bbbb"])

    with pytest.raises(NameClashError):
        kit.llm(frame).parse(Label, "{t}")


Change = Callable[[FrameKit, Any], Any]
CHANGES: dict[str, Change] = {
    "concat": lambda kit, out: kit.concat(kit.take(out, [0]), kit.take(out, [1, 2])),
    "join": lambda kit, out: kit.join(out, kit.frame({"n": [0, 1, 2], "w": [1, 1, 1]}), "n"),
    "stored": lambda kit, out: kit.stored(out),
    "new rows": lambda kit, out: kit.concat(out, kit.frame({"t": ["new"], "n": [0]})),
    "shuffled": lambda kit, out: kit.take(out, [2, 0, 1]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.sample(10)
@pytest.mark.parametrize("kernel", ["same", "new"])
def test_answers_are_known_again_wherever_they_went(
    sent: Sent, kit: FrameKit, texts: Texts, change: Change, kernel: str
) -> None:
    out = kit.llm(texts("a", "bbbb", "cc")).parse(Label, "{t}")
    changed = change(kit, out)
    if kernel == "new":
        run_registry.forget_all()

    again = kit.llm(changed).parse(Label, "{t}")

    assert kit.names(again).count("size") == 1
    assert kit.column(again, "size") == [len(text) for text in kit.column(again, "t")]


def test_the_columns_of_calls_and_of_lists_can_be_asked_for_again(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    pllm.configure(sim={"answers": lambda request: request.prompt.split()})
    frame = texts("a b", "c")

    once = kit.llm(frame).parse(list[str], "{t}", explode=True)
    twice = kit.llm(once).parse(list[str], "{t}", explode=True)

    assert kit.column(once, "answer") == ["a", "b", "c"]
    assert kit.column(twice, "answer") == ["a", "b", "a", "b", "c"]


# What is said of a frame is said of its rows.


def test_a_shuffled_frame_is_evaluated_by_its_own_values(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    frame = kit.put(texts("a", "bbbb", "cc", "dddddd", "e", "ffffffff"), "label", ["short", "long"] * 3)
    out = kit.llm(frame).parse(Label, "{t}")

    shuffled = kit.take(out, [3, 1, 0, 5, 2, 4])

    assert kit.llm(shuffled).evaluate(against="label", field="category").accuracy == 1
    wrong = kit.column(shuffled, "category")
    wrong[0] = "short"  # of "dddddd"
    shuffled = kit.put(shuffled, "category", wrong)
    assert kit.llm(shuffled).evaluate(against="label", field="category").accuracy == pytest.approx(5 / 6)


def test_a_filtered_frame_has_the_status_of_its_own_rows(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "-", "bbbb", "-x")).parse(Label, "{t}")

    part = kit.llm(kit.take(out, [3, 2]))

    assert kit.values(part.status) == ["failed", "ok"]
    (error,) = kit.rows(part.errors)
    assert (error["position"], error["kind"], error["prompt"]) == (0, "refusal", "-x")
    assert part.explain(1).prompt == "bbbb"
    assert kit.column(part.usage, "attempts") == [1, 1]


def test_a_retry_does_not_make_the_old_frame_right(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "-")).parse(Label, "{t}")
    run = kit.llm(out).run
    pllm.configure(sim={"answers": lambda request: {"category": "short", "size": 7}})

    new = run.retry(kinds=["refusal"]).result()

    assert kit.values(kit.llm(out).status) == ["ok", "changed"]
    assert kit.values(kit.llm(new).status) == ["ok", "ok"]


def test_a_corrected_answer_is_told_as_changed(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "bbbb")).parse(Label, "{t}")

    out = kit.put(out, "size", [99, 4])

    assert kit.values(kit.llm(out).status) == ["changed", "ok"]


def test_a_changed_cell_is_of_no_run(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "bbbb")).parse(Label, "{t}")

    llm = kit.llm(kit.put(out, "t", ["other", "bbbb"]))

    assert kit.values(llm.status) == [None, "ok"]
    assert kit.column(llm.usage, "attempts") == [None, 1]
    with pytest.raises(PllmError, match="No known run made row 0 of this frame"):
        llm.explain(0)


def test_a_renamed_input_is_refused_by_the_name_of_the_run(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a")).parse(Label, "{t}")
    run_id = kit.llm(out).run.id

    with pytest.raises(PllmError, match=rf"\['t'\] is no longer in it.*pllm.run\('{run_id}'\)"):
        _ = kit.llm(kit.rename(out, "t", "text")).status


def test_chunks_that_are_put_together_are_told_row_by_row(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    parts = [kit.llm(frame).parse(Label, "{t}") for frame in (texts("a", "-"), texts("bbbb", "-y"))]

    whole = kit.llm(kit.concat(*parts))

    assert kit.values(whole.status) == ["ok", "failed", "ok", "failed"]
    assert kit.column(whole.errors, "prompt") == ["-", "-y"]
    with pytest.raises(PllmError, match="Several runs made"):
        _ = whole.run


def test_samples_and_agreement_follow_the_rows(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "bbbb", "cc")).parse(Label, "{t}", samples=3)

    part = kit.llm(kit.take(out, [2, 0]))

    assert kit.column(part.samples, "size") == [2, 2, 2, 1, 1, 1]
    assert kit.column(part.samples, "position") == [0, 0, 0, 1, 1, 1]
    assert kit.column(part.agreement, "whole_answer") == [1, 1]
    run_registry.forget_all()
    assert kit.column(part.agreement, "whole_answer") == [1, 1]
    assert kit.column(part.samples, "size") == [2, 2, 2, 1, 1, 1]


def test_lines_of_exploded_answers_are_told_by_their_rows(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    pllm.configure(sim={"answers": lambda request: request.prompt.split()})
    out = kit.llm(texts("a b", "c")).parse(list[str], "{t}", explode=True)

    llm = kit.llm(kit.put(out, "answer", ["z", "b", "c"]))

    assert kit.values(llm.status) == ["changed", "ok", "ok"]
    assert [llm.explain(row).prompt for row in range(3)] == ["a b", "a b", "c"]


def test_columns_that_decide_are_told_by_their_rows(sent: Sent, kit: FrameKit) -> None:
    frame = kit.frame({"q": ["one", "two"], "a": ["x", "y"], "b": ["x", "y"]})
    out = kit.llm(frame).decide(["a", "b"], "{q}")

    assert kit.values(kit.llm(kit.take(out, [1, 0])).status) == ["skipped", "skipped"]
    assert kit.names(kit.llm(out).decide(["a", "b"], "{q}")) == kit.names(out)


# In a new kernel.


def test_an_earlier_kernels_run_tells_of_its_rows(sent: Sent, kit: FrameKit, texts: Texts) -> None:
    out = kit.llm(texts("a", "-", "bbbb")).parse(Label, "{t}")
    live = (kit.values(kit.llm(out).status), kit.rows(kit.llm(out).usage))
    run_registry.forget_all()

    part = kit.llm(kit.take(out, [2, 1, 0]))

    assert kit.values(part.status) == live[0][::-1]
    answered = ["input_tokens", "output_tokens", "cost_usd", "latency_s", "attempts"]
    usage = kit.rows(part.usage)
    for row in (0, 2):
        assert [usage[2 - row][name] for name in answered] == pytest.approx([live[1][row][name] for name in answered])
    assert kit.column(part.errors, "kind") == ["refusal"]
    assert part.explain(0).prompt == "bbbb"
    assert part.explain(0).reply["object"] == "chat.completion"
    labelled = kit.llm(kit.put(out, "truth", ["short", "long", "long"]))
    assert labelled.evaluate("truth", field="category").accuracy == 1


# Whatever is done to a frame.


def _operations(kit: FrameKit, frame: Any, name: str, seed: int) -> Any:
    size = len(frame)
    match name:
        case "filter":
            return kit.take(frame, [at for at, n in enumerate(kit.column(frame, "n")) if n % 3 != seed % 3])
        case "sort":
            cells = kit.column(frame, "t")
            return kit.take(frame, sorted(range(size), key=cells.__getitem__, reverse=not seed % 2))
        case "sample":
            return kit.take(frame, random.Random(seed).choices(range(size), k=min(size, 5)))
        case "concat":
            return kit.concat(frame, kit.take(frame, range(min(size, seed % 3))))
        case "new rows":
            return kit.concat(frame, kit.frame({"t": [f"x{seed}"], "n": [seed]}))
        case "join" if f"w{seed}" not in kit.names(frame):
            return kit.join(frame, kit.frame({"n": list(range(12)), f"w{seed}": [1] * 12}), "n")
        case "assign":
            return kit.put(frame, "extra", [seed] * size)
        case "head":
            return kit.take(frame, range(min(size, 4)))
        case "unnamed":
            return kit.unnamed(frame)
        case "change a text":
            return _changed(kit, frame, "t", seed, f"y{seed}")
        case "change an answer":
            return _changed(kit, frame, "size", seed, 1_000 + seed) if "size" in kit.names(frame) else frame
        case "stored":
            there = kit.stored(frame)
            return there if seed % 2 else kit.unnamed(there)
        case _:
            run_registry.forget_all()
            return frame


def _changed(kit: FrameKit, frame: Any, name: str, seed: int, value: Any) -> Any:
    cells = kit.column(frame, name)
    if cells:
        cells[seed % len(cells)] = value
    return kit.put(frame, name, cells)


NAMES = ("filter", "sort", "sample", "concat", "new rows", "join", "assign", "head", "unnamed",
         "change a text", "change an answer", "stored", "new process")  # fmt: skip
RUNS = ("label", "echo", "labelled again")


@pytest.mark.sample(1)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    runs=st.lists(st.sampled_from(RUNS), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 9)), max_size=6),
)
def test_every_view_tells_the_truth_of_its_row_or_refuses(
    sent: Sent, kit: FrameKit, texts: Texts, runs: list[str], steps: list[tuple[str, int]]
) -> None:
    run_registry.forget_all()
    pllm.runs.clear()
    frame = texts("a", "bbbb", "-", "cc", "bbbb", "-z", "dddddd")
    asked: set[str] = set()
    for run in runs:
        frame = _ask(kit, frame, run)
        asked |= set(kit.column(frame, "t"))
    last = runs[-1]
    prompt = "Now {}" if last == "labelled again" else "{}"
    for name, seed in steps:
        frame = _operations(kit, frame, name, seed)
    llm, cells = kit.llm(frame), kit.column(frame, "t")

    try:
        status = kit.values(llm.status)
    except PllmError:
        table = table_of(frame)
        assert not cells or not set(cells) & asked or (table is not None and table.run_id is None)
        return
    errors, usage = llm.errors, llm.usage

    assert len(status) == len(usage) == len(cells)
    failed = set(kit.column(errors, "position"))
    for position, (word, text) in enumerate(zip(status, cells, strict=True)):
        if word is None:
            assert text not in asked or not _has_answer(kit, frame, last, position)
            continue
        assert text in asked
        truth = "failed" if prompt.format(text).startswith("-") else "answered"
        if word == "changed":
            assert not _is_true(kit, frame, last, position, prompt.format(text))
        else:
            assert (word == "failed") == (truth == "failed")
        assert (position in failed) == (truth == "failed")
        assert llm.explain(position).prompt == prompt.format(text)
    made = [name for name in ("size", "category") if name in kit.names(frame)]
    again = _ask(kit, kit.drop(frame, *made), "label")
    assert [size is None for size in kit.column(again, "size")] == [text.startswith("-") for text in cells]


def _ask(kit: FrameKit, frame: Any, run: str) -> Any:
    if run == "echo":
        return kit.llm(frame).parse(Other, "{t}")
    return kit.llm(frame).parse(Label, "Now {t}" if run == "labelled again" else "{t}")


def _answer(kit: FrameKit, frame: Any, run: str, position: int) -> Any:
    column = "echo" if run == "echo" else "size"
    return kit.column(frame, column)[position] if column in kit.names(frame) else None


def _has_answer(kit: FrameKit, frame: Any, run: str, position: int) -> bool:
    return _answer(kit, frame, run, position) is not None


def _is_true(kit: FrameKit, frame: Any, run: str, position: int, prompt: str) -> bool:
    if prompt.startswith("-"):
        return not _has_answer(kit, frame, run, position)
    return bool(_answer(kit, frame, run, position) == (prompt if run == "echo" else len(prompt)))

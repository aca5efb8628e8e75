"""What `.llm` says of pandas frames that were changed since: by index, `attrs`, dtypes, in place and pickled."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import run_registry
from tests.forked import run_forked
from tests.frames.known_answers import Label, Sent

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


def texts(*values: str) -> pd.DataFrame:
    return pd.DataFrame({"t": list(values), "n": range(len(values))})


def in_other_dtypes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of the same values, with the dtypes that pandas finds for them."""
    there = frame.astype(object).convert_dtypes()
    there.attrs = {}
    return there


@pytest.mark.parametrize(
    "change",
    [
        in_other_dtypes,
        lambda out: out.merge(pd.DataFrame({"n": [0, 1, 2], "w": 1}), on="n", how="left"),
        lambda out: out.sample(frac=1, random_state=1).reset_index(drop=True),
        lambda out: pd.concat([out.iloc[1:], out.iloc[:1]]),
    ],
    ids=["other dtypes", "merge", "index reset", "concat"],
)
def test_answers_are_known_again_in_other_dtypes_and_orders(
    sent: Sent, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    out = texts("a", "bbbb", "cc").llm.parse(Label, "{t}")
    changed = change(out)
    run_registry.forget_all()

    again = changed.llm.parse(Label, "{t}")

    assert list(again.columns).count("size") == 1
    assert again["size"].tolist() == [len(text) for text in again["t"]]


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


def test_a_filtered_frame_has_the_status_of_its_own_rows(sent: Sent) -> None:
    out = texts("a", "-", "bbbb", "-x").llm.parse(Label, "{t}")

    part = out[out["n"] >= 2].sort_values("n", ascending=False)

    assert part.llm.status.to_dict() == {3: "failed", 2: "ok"}
    assert part.llm.errors[["position", "label", "kind", "prompt"]].to_numpy().tolist() == [[0, 3, "refusal", "-x"]]
    assert part.llm.explain(1).prompt == "bbbb"
    assert part.llm.usage["attempts"].tolist() == [1, 1]


def test_attrs_that_came_with_other_rows_are_not_believed(sent: Sent) -> None:
    out = texts("a", "bbbb").llm.parse(Label, "{t}")
    others = pd.DataFrame({"t": ["x", "y"], "n": [1, 2]})
    others.attrs = dict(out.attrs)

    with pytest.raises(PllmError, match="No row of this frame has the content"):
        _ = others.llm.status


def test_samples_and_agreement_follow_the_rows(sent: Sent) -> None:
    out = texts("a", "bbbb", "cc").llm.parse(Label, "{t}", samples=3)

    part = out.iloc[[2, 0]]

    assert part.llm.samples["size"].tolist() == [2, 2, 2, 1, 1, 1]
    assert part.llm.samples["label"].tolist() == [2, 2, 2, 0, 0, 0]
    assert part.llm.agreement.index.tolist() == [2, 0]
    run_registry.forget_all()
    assert part.llm.agreement["whole_answer"].tolist() == [1, 1]
    assert part.llm.samples["size"].tolist() == [2, 2, 2, 1, 1, 1]


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

    done = run_forked("-c", textwrap.dedent(script))

    assert done.stderr == ""
    assert done.stdout == f"['ok', 'failed', 'ok'] {out.attrs['pllm_run']} done [1, 1, 1]\n"


def test_labels_of_an_earlier_kernels_run_are_matched_by_the_index(sent: Sent) -> None:
    out = texts("a", "-", "bbbb").llm.parse(Label, "{t}")
    run_registry.forget_all()

    part = out.iloc[::-1]

    assert part.llm.usage.index.tolist() == part.llm.status.index.tolist() == [2, 1, 0]
    assert part.llm.errors["label"].tolist() == [1]
    truth = pd.Series({0: "short", 1: "long", 2: "long"})
    assert part.llm.evaluate(truth, field="category").accuracy == 1

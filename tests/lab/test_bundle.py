"""A bundle rebuilds its frame, bit for bit, in a fresh directory: no key, no network, no call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import FileError, PllmError, StoreError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.provenance import provenance_of
from pllm_notebook.frames.samples import NOT_ENDED
from pllm_notebook.lab.bundle_lines import record_of_lines
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.sim import SimAnswer
from tests.frames.frame_libraries import LIBRARIES, FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed", "ignore:.*row failed")


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]
    stars: int | None
    said: str
    parts: list[str]


class Sim:
    def __init__(self) -> None:
        self.asked = 0

    def answer(self, request: Any) -> Any:
        self.asked += 1
        number = int(request.prompt.split()[-1])
        if number == 7:
            return SimAnswer.refusal()
        return {"mood": ["good", "bad"][number % 2], "stars": number % 5 or None, "said": f"é {number}", "parts": ["a"]}


@pytest.fixture
def sim_model(cache_dir: Path) -> Sim:
    model = Sim()
    pllm.configure(sim={"answers": model.answer}, model="sim:openai")
    return model


def table() -> pd.DataFrame:
    texts = [f"cell {n}" for n in range(20)] + ["cell 3"]
    return pd.DataFrame({"text": texts, "more": range(21)}, index=[f"row {n}" for n in range(21)])


def elsewhere(directory: Path) -> None:
    """Go on as another person with an empty cache."""
    RUNTIME.reset()
    run_registry.forget_all()
    pllm.configure(cache_dir=directory, progress=False)


@pytest.mark.parametrize("kind", ["folder", "archive.zip"])
def test_a_frame_is_rebuilt_bit_for_bit_elsewhere(sim_model: Sim, tmp_path: Path, kind: str) -> None:
    out = table().llm.parse(Review, "Read {text}", error_column="why")
    out.loc["row 4", "mood"] = "bad"
    out.loc["row 3", "said"] = "corrected"
    out.llm.label(field="mood", by="me")
    asked = sim_model.asked
    out.llm.report(bundle=tmp_path / kind, bundle_rows=True)
    status = out.llm.status.tolist()
    elsewhere(tmp_path / "fresh")

    rebuilt = pllm.open_bundle(tmp_path / kind)

    pd.testing.assert_frame_equal(rebuilt, out, check_exact=True)
    assert rebuilt.attrs == out.attrs
    assert rebuilt.llm.status.tolist() == status
    assert [label.value for label in pllm.labels("mood")] == ["bad"]
    assert rebuilt.llm.report().data["rows"]["failures"] == {"refusal": 1}
    assert sim_model.asked == asked


def test_rows_of_ones_own_are_put_beside_the_answers(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    out.loc["row 5", "mood"] = "good"
    out.llm.report(bundle=tmp_path / "bundle")
    shuffled = table().sample(frac=1, random_state=1)
    elsewhere(tmp_path / "fresh")

    beside = pllm.open_bundle(tmp_path / "bundle", shuffled)
    alone = pllm.open_bundle(tmp_path / "bundle")

    pd.testing.assert_frame_equal(beside.loc[out.index], out, check_exact=True)
    answers = out.drop(columns=["text", "more"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, answers, check_exact=True)
    with pytest.raises(PllmError, match="No row of this frame has the content"):
        pllm.open_bundle(tmp_path / "bundle", pd.DataFrame({"text": ["another"]}))


def test_rows_are_in_a_bundle_only_where_they_are_asked_for(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    out.llm.label(pd.Series(["good"] * 21, index=out.index, name="mood"))

    out.llm.report(bundle=tmp_path / "without")
    out.llm.report(bundle=tmp_path / "with", bundle_rows=True)

    contents = {
        name: b"".join(path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file())
        for name in ("without", "with")
    }
    assert b"cell 3" not in contents["without"]
    assert b"cell 3" in contents["with"]
    assert "It does not contain the input rows" in (tmp_path / "without" / "README.md").read_text()


def test_a_part_of_a_run_bundles_its_own_rows_alone(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}", samples=2, agreement_column="agreed")
    part = out[out["more"] > 15].iloc[::-1]

    part.llm.report(bundle=tmp_path / "bundle.zip", bundle_rows=True)
    elsewhere(tmp_path / "fresh")
    rebuilt = pllm.open_bundle(tmp_path / "bundle.zip")

    pd.testing.assert_frame_equal(rebuilt, part, check_exact=True)
    assert pllm.cache.info().entries == 10  # two samples of five distinct rows


@pytest.mark.parametrize("kit", LIBRARIES, ids=repr)
def test_every_library_is_rebuilt(sim_model: Sim, tmp_path: Path, kit: FrameKit) -> None:
    made = table()
    out = kit.llm(kit.frame({name: made[name].tolist() for name in made})).parse(Review, "Read {text}")
    kit.llm(out).report(bundle=tmp_path / "bundle", bundle_rows=True)
    elsewhere(tmp_path / "fresh")

    rebuilt = pllm.open_bundle(tmp_path / "bundle")

    assert type(rebuilt) is type(out)
    for name in ("text", "more", "mood", "stars", "said"):
        assert kit.column(rebuilt, name) == kit.column(out, name)


def test_the_script_rebuilds_it_without_key_and_network(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    out.llm.report(bundle=tmp_path / "bundle", bundle_rows=True)
    out.drop(columns="parts").to_pickle(tmp_path / "out.pickle")
    program = f"""
        import runpy, socket, sys
        import pandas as pd

        def refuse(*args, **also):
            raise AssertionError("the network was used")

        socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
        sys.argv = ["rebuild.py"]
        names = runpy.run_path({str(tmp_path / "bundle" / "rebuild.py")!r})
        expected = pd.read_pickle({str(tmp_path / "out.pickle")!r})
        pd.testing.assert_frame_equal(names["frame"].drop(columns="parts"), expected, check_exact=True)
        print("rebuilt")
    """
    bare = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=bare, capture_output=True, text=True, timeout=120
    )

    assert done.stdout.strip().endswith("rebuilt"), done.stderr


def test_what_is_damaged_or_no_bundle_is_refused(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    out.llm.report(bundle=tmp_path / "bundle")
    labels = tmp_path / "bundle" / "labels.csv"
    labels.write_text(labels.read_text() + "more")
    (tmp_path / "other.txt").write_text("x")
    elsewhere(tmp_path / "fresh")

    with pytest.raises(StoreError, match=r"labels.csv is not what was written. Nothing was imported"):
        pllm.open_bundle(tmp_path / "bundle")
    with pytest.raises(StoreError, match="not a bundle"):
        pllm.open_bundle(tmp_path / "other.txt")
    with pytest.raises(FileError, match="Nothing was imported"):
        pllm.open_bundle(tmp_path / "nothing")
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_bytes())
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(StoreError, match="Upgrade pllm_notebook"):
        pllm.open_bundle(tmp_path / "bundle")
    assert pllm.cache.info().entries == 0


def test_a_name_in_an_archive_leads_nowhere_else(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    out.llm.report(bundle=tmp_path / "bundle.zip")
    with zipfile.ZipFile(tmp_path / "bundle.zip", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("../outside.txt", "runs/../../outside.run", "/outside.txt", "runs/x/outside.run"):
            archive.writestr(name, "hostile")

    pllm.open_bundle(tmp_path / "bundle.zip", table())

    assert not list(tmp_path.rglob("outside*"))


def test_nothing_that_is_there_is_overwritten(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "mine.zip").write_text("x")

    for name in ("mine", "mine.zip", "mine/thesis.txt"):
        with pytest.raises(UsageError, match="Nothing was written"):
            out.llm.report(bundle=tmp_path / name)
    out.llm.report(bundle=tmp_path / "new")
    out.llm.report(bundle=tmp_path / "new")  # a cell that is run again

    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_answers_that_are_gone_cannot_be_bundled(sim_model: Sim, tmp_path: Path) -> None:
    out = table().llm.parse(Review, "Read {text}")
    pllm.cache.clear()

    with pytest.raises(PllmError, match="19 answers of this frame are no longer in the cache"):
        out.llm.report(bundle=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


HOW: dict[str, dict[str, Any]] = {
    "vote": {"samples": 3, "decide": "vote", "agreement_column": "agreed"},
    "judge": {"models": ["sim:openai", "sim:anthropic"], "decide": "judge"},
    "escalated": {"models": ["sim:openai", "sim:anthropic"], "decide": "escalate", "judge": "sim:google"},
    "a function of one's own": {"samples": 2, "decide": lambda answers: answers[0]},
    "guarantee": {"samples": 3, "decide": "escalate", "judge": "sim:google", "guarantee": 0.05},
}


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


def verdict(answer: Any) -> Any:
    """Return what a judge of two candidates says."""
    marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 5)
    return {"scores": [{"candidate": at, **marks} for at in (1, 2)], "answer": answer}


def unsure(request: Any) -> Any:
    """Answer as the model would that is asked: each errs on other rows."""
    if "candidates" in request.prompt:
        return verdict({"mood": "good"})
    number = int(request.prompt.split()[-1])
    err = {"openai": 3, "anthropic": 5}.get(request.provider, 7)
    return {"mood": ["good", "bad"][(number + (number % err == 0)) % 2]}


@pytest.mark.sample(2)
@pytest.mark.parametrize("how", HOW)
def test_a_decided_frame_is_rebuilt(cache_dir: Path, tmp_path: Path, how: str) -> None:
    pllm.configure(sim={"answers": unsure}, model="sim:openai")
    frame = pd.DataFrame({"text": [f"cell {n}" for n in range(150 if how == "guarantee" else 20)]})
    out = frame.llm.parse(Mood, "Read {text}", **HOW[how])
    promise = repr(out.llm.guarantee) if how == "guarantee" else ""
    out.llm.report(bundle=tmp_path / "bundle.zip", bundle_rows=True)
    elsewhere(tmp_path / "fresh")

    rebuilt = pllm.open_bundle(tmp_path / "bundle.zip")

    pd.testing.assert_frame_equal(rebuilt, out, check_exact=True)
    if promise:
        assert repr(rebuilt.llm.guarantee) == promise


def test_decisions_between_columns_are_rebuilt(cache_dir: Path, tmp_path: Path) -> None:
    pllm.configure(sim={"answers": lambda request: verdict("y")}, model="sim:openai")
    frame = pd.DataFrame({"text": [f"cell {n}" for n in range(6)], "a": ["x"] * 6, "b": ["x", "y", None] * 2})
    out = frame.llm.decide(["a", "b"], "Which? {text}")
    assert out["decision"].tolist() == ["x", "y", "x"] * 2
    out.llm.report(bundle=tmp_path / "with", bundle_rows=True)
    out.llm.report(bundle=tmp_path / "without")
    elsewhere(tmp_path / "fresh")

    rebuilt = pllm.open_bundle(tmp_path / "with")
    beside = pllm.open_bundle(tmp_path / "without", frame.iloc[::-1])

    pd.testing.assert_frame_equal(rebuilt, out, check_exact=True)
    pd.testing.assert_frame_equal(beside.loc[out.index], out, check_exact=True)
    pd.testing.assert_frame_equal(
        pllm.open_bundle(tmp_path / "without"), out[["decision", "decision_from"]], check_exact=True
    )


class Item(BaseModel):
    """A thing that is named."""

    name: str
    count: int


def items(request: Any) -> Any:
    number = int(request.prompt.split()[-1])
    return {"value": [{"name": f"thing {at}", "count": at} for at in range(number % 4)]}


def test_lines_of_items_are_rebuilt(cache_dir: Path, tmp_path: Path) -> None:
    pllm.configure(sim={"answers": items}, model="sim:openai")
    frame = pd.DataFrame({"text": [f"cell {n}" for n in range(12)] + ["cell 3"], "more": range(13)})
    out = frame.llm.parse(list[Item], "Name the things in {text}", explode=True)
    report = out.llm.report(bundle=tmp_path / "bundle", bundle_rows=True)
    part = out[out["name"] != "thing 1"].iloc[::-1].copy()
    part.iloc[0, part.columns.get_loc("name")] = "corrected"
    part.llm.report(bundle=tmp_path / "part", bundle_rows=True)
    part.llm.report(bundle=tmp_path / "without")
    elsewhere(tmp_path / "fresh")

    rebuilt = pllm.open_bundle(tmp_path / "bundle")
    rebuilt_part = pllm.open_bundle(tmp_path / "part")
    beside = pllm.open_bundle(tmp_path / "without", frame)

    pd.testing.assert_frame_equal(rebuilt, out, check_exact=True)
    pd.testing.assert_frame_equal(rebuilt_part, part, check_exact=True)
    changed = beside["name"].ne(out["name"]).fillna(False)
    assert beside.loc[changed, "name"].tolist() == ["corrected"] * int(changed.sum())
    assert changed.any()
    pd.testing.assert_frame_equal(beside[~changed], out[~changed], check_exact=True)
    assert (report.data["rows"]["total"], report.data["rows"]["items"]) == (12, len(out))
    assert "each item is a line" in report.methods
    with pytest.raises(UsageError, match="labels are of rows"):
        rebuilt.llm.report(by="more")


def test_a_bundle_without_rows_replaces_one_with_rows_and_leaves_other_files_alone(
    sim_model: Sim, tmp_path: Path
) -> None:
    out = table().llm.parse(Review, "Read {text}")
    target = tmp_path / "bundle"
    out.llm.report(bundle=target, bundle_rows=True)
    held = {path.name for path in target.rglob("*")}
    (target / "mine.txt").write_text("kept")

    out.llm.report(bundle=target)

    assert "rows.parquet" in held
    assert {path.name for path in target.rglob("*")} == held - {"rows.parquet"} | {"mine.txt"}
    elsewhere(tmp_path / "elsewhere")
    assert pllm.open_bundle(target, table())["mood"].equals(out["mood"])


def test_a_row_that_the_run_did_not_ask_has_no_other_rows_samples_in_a_record(sim_model: Sim) -> None:
    out = table().llm.complete("Say {text}", samples=2)
    asked = table_of(out)
    assert asked is not None
    (source,) = provenance_of(asked).sources

    record = record_of_lines(asked, source, np.array([-1, 1, *[2] * 19]))

    assert record.samples is not None
    assert source.record is not None
    assert not record.samples.keys[0].any()
    assert record.samples.failure[0].tolist() == [NOT_ENDED, NOT_ENDED]
    assert (record.samples.chosen[0], record.samples.how[0]) == (-1, 0)
    assert all(not hashes[0] for hashes in record.answers.values())
    assert source.record.samples is not None
    assert record.samples.keys[1].tolist() == source.record.samples.keys[1].tolist()

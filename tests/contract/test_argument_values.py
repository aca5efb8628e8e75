"""A wrong value of an argument is one error of ours, before anything is sent, in what is built around asking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import FileError, PllmError, UsageError
from pllm_notebook.otel import Telemetry
from pllm_notebook.sim import Simulator
from pllm_notebook.testing import fake, record

Mood = Literal["good", "bad"]
LABELS = ["good", "bad"]


class Ready(NamedTuple):
    """A frame, two answers to it, and a place for files."""

    frame: pd.DataFrame
    out: Any
    again: Any
    place: Path

    def dataset(self, out: Any, **options: Any) -> Any:
        source = self.place / "in.parquet"
        self.frame.to_parquet(source)
        return pllm.parse_dataset(options.pop("source", source), out, Mood, "{t}", **options)


@pytest.fixture
def ready(cache_dir: object, sim: Simulator, tmp_path: Path) -> Ready:
    sim.set(answers=lambda request: {"value": "good"})
    pllm.configure(servers={"here": sim.base_url("compatible")}, model="here:any", progress=False)
    frame = pd.DataFrame({"t": ["a", "b"]})
    (tmp_path / "file").write_text("x")
    return Ready(frame, frame.llm.parse(Mood, "{t}"), frame.llm.parse(Mood, "again {t}"), tmp_path)


WRONG: dict[str, tuple[Callable[[Ready], Any], str]] = {
    # Labels are no list, array or frame: nothing says which row one is of.
    "evaluate list": (lambda it: it.out.llm.evaluate(LABELS), "not a value of type list"),
    "evaluate frame": (lambda it: it.out.llm.evaluate(it.frame), "not a value of type DataFrame"),
    "evaluate array": (lambda it: it.out.llm.evaluate(np.zeros((2, 2))), "not a value of type ndarray"),
    "label frame": (lambda it: it.out.llm.label(it.frame), "not a value of type DataFrame"),
    "compare array": (lambda it: it.again.llm.compare(it.out, against=np.array(LABELS)), "not a value of type ndarray"),
    "compare field": (lambda it: it.again.llm.compare(it.out, field="answer"), "field='answer' names the field of"),
    "variants": (lambda it: pllm.compare({1: "{t}", "b": "b {t}"}, Mood, on=it.frame), "variant's name is text, not 1"),
    "variants field": (
        lambda it: pllm.compare({"a": "a {t}", "b": "b {t}"}, Mood, on=it.frame, field="answer"),
        "field='answer' names the field of",
    ),
    "recheck type": (lambda it: it.out.llm.recheck(int), "int is not its type"),
    "recheck option": (lambda it: it.out.llm.recheck(nonsense=1), "There is no option 'nonsense'"),
    "chunks prefix": (lambda it: it.frame.llm.chunks("t", prefix=3), "prefix is text, not 3"),
    "chunks tokens": (lambda it: it.frame.llm.chunks("t", tokens=2**70), "tokens is a whole number"),
    "reduce prompt": (lambda it: it.frame.llm.reduce(None, by="t"), "The prompt is text, not None"),
    "reduce by": (lambda it: it.frame.llm.reduce("{t}", by=3), "by= is the name of a column"),
    "reduce by nothing": (lambda it: it.frame.llm.reduce("{t}", by=[]), "by= is the name of a column"),
    "calibration": (lambda it: it.frame.llm.parse(Mood, "{t}", calibration=""), "calibration is a name"),
    "calibrations": (lambda it: it.frame.llm.parse(Mood, "{t}", calibration=[]), "calibration is a name"),
    "top_p": (lambda it: it.frame.llm.parse(Mood, "{t}", top_p=1.5), "top_p is a number from 0 to 1, not 1.5"),
    "dataset out": (lambda it: it.dataset(3), "The path of a dataset's directory is expected, not 3"),
    "dataset no out": (lambda it: it.dataset(""), "The path of a dataset's directory is expected, not ''"),
    "dataset no source": (lambda it: it.dataset(it.place / "out", source=""), "The path of a Parquet file"),
    "dataset status": (lambda it: it.dataset(it.place / "out", status="yes"), "status is True or False, not 'yes'"),
    "dataset unreachable": (
        lambda it: it.dataset(it.place / "out", source="http://127.0.0.1:9/x.parquet"), "cannot be read",
    ),
    "open_dataset": (lambda it: pllm.open_dataset(None), "The path of a dataset's directory is expected, not None"),  # type: ignore[arg-type]
    "retry": (lambda it: it.dataset(it.place / "out").retry(3), "Kinds of failure are a list, not 3"),
    "on_event": (lambda it: pllm.configure(on_event=Telemetry), "none of them async or a class"),
    "tracer": (lambda it: Telemetry("x"), "tracer_provider is one of OpenTelemetry's"),  # type: ignore[arg-type]
    "meter": (lambda it: Telemetry(None, 3), "meter_provider is one of OpenTelemetry's"),  # type: ignore[arg-type]
    "prompts": (lambda it: Telemetry(prompts="yes"), "prompts is True or False"),  # type: ignore[arg-type]
    "fake network": (lambda it: fake({}, network=1).__enter__(), "network is True or False"),  # type: ignore[arg-type]
    "record": (lambda it: record(3).__enter__(), "The path of a recording is expected, not 3"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize(("use", "words"), WRONG.values(), ids=WRONG)
@pytest.mark.sample(12)
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_a_wrong_value_is_refused_before_anything_is_sent(
    ready: Ready, sim: Simulator, use: Callable[[Ready], Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sim.stats().requests

    with pytest.raises(UsageError) as caught:
        use(ready)

    assert words in str(caught.value)
    assert sim.stats().requests == before
    assert capsys.readouterr().out == ""


UNWRITABLE: dict[str, Callable[[Ready], Any]] = {
    "a dataset in a file": lambda it: it.dataset(it.place / "file"),
    "a dataset below a file": lambda it: it.dataset(it.place / "file" / "out"),
    "a recording that is a directory": lambda it: record(it.place).__enter__(),
    "a recording in no directory": lambda it: record(it.place / "none" / "r.jsonl").__enter__(),
    "a recording to read": lambda it: fake(it.place).__enter__(),
}


@pytest.mark.parametrize("use", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_sent(
    ready: Ready, sim: Simulator, use: Callable[[Ready], Any]
) -> None:
    before = sim.stats().requests

    with pytest.raises(FileError):
        use(ready)

    assert sim.stats().requests == before


def test_a_recording_that_fails_while_it_is_written_costs_no_row(ready: Ready, sim: Simulator) -> None:
    path = ready.place / "r.jsonl"
    before = sim.stats().requests
    recording = record(path)

    recording.__enter__()
    path.unlink()
    path.mkdir()
    out = ready.frame.llm.parse(Mood, "recorded {t}")

    with pytest.raises(FileError, match="Not all that was answered is in it"):
        recording.__exit__(None, None, None)
    assert out["answer"].tolist() == ["good", "good"]
    assert sim.stats().requests == before + 2


def test_a_recorded_type_is_taken_by_recheck(ready: Ready) -> None:
    assert not isinstance(ready.out.llm.recheck(Mood), PllmError)

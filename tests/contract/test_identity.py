"""The answer belongs to its row, whatever order, duplicates, faults and index did."""

from __future__ import annotations

import hashlib
import random

import pandas as pd
import pytest
from pydantic import BaseModel

from pllm_notebook.sim import SimRequest, Simulator
from tests.contract.sides import Side


class Digest(BaseModel):
    text: str
    digest: str


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def answer(request: SimRequest) -> dict[str, str]:
    return {"text": request.prompt, "digest": digest(request.prompt)}


def column(rows: int, seed: int) -> list[str]:
    """Texts in no order, of which every tenth is that of another row."""
    rng = random.Random(seed)
    distinct = [f"row {n} of {seed} {rng.random()}" for n in range(rows - rows // 10)]
    texts = distinct + rng.sample(distinct, rows // 10)
    rng.shuffle(texts)
    return texts


def duplicated(rows: int) -> pd.Index:
    return pd.Index([n % 7 for n in range(rows)])


def multi(rows: int) -> pd.Index:
    return pd.MultiIndex.from_arrays([[n % 5 for n in range(rows)], [f"k{n % 11}" for n in range(rows)]])


def strings(rows: int) -> pd.Index:
    return pd.Index([f"id{rows - n}" for n in range(rows)])


FAULTS = {"error_500": 0.01, "reset": 0.01, "malformed": 0.01, "html": 0.01, "truncated_body": 0.01}


def check(frame: pd.DataFrame, model: str, sim: Simulator) -> None:
    before = frame.copy()

    out = frame.llm.parse(Digest, "{source}", model=model, max_retries=10)

    stats = sim.stats()
    assert out.index.equals(frame.index)
    assert out["source"].tolist() == frame["source"].tolist()
    assert out["text"].tolist() == frame["source"].tolist()
    assert out["digest"].tolist() == [digest(text) for text in frame["source"]]
    assert set(out.llm.status) == {"ok"}
    # Each distinct call brought one answer and no more, although every twentieth request met a fault.
    assert (stats.answered, stats.distinct, stats.repeated) == (frame["source"].nunique(),) * 2 + (0,)
    assert stats.requests == stats.answered + sum(stats.faults.values())
    assert sum(stats.faults.values()) > frame["source"].nunique() * 0.02
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.full  # ten seconds; the same holds for fewer rows below
def test_ten_thousand_rows_each_get_their_own_answer(luna: str, sim: Simulator) -> None:
    sim.set(answers=answer, latency_s=0.005, latency_sigma=1.0, keep_requests=0, **FAULTS)

    check(pd.DataFrame({"source": column(10_000, 1)}, index=duplicated(10_000)), luna, sim)


@pytest.mark.parametrize("index", [duplicated, multi, strings], ids=lambda make: make.__name__)
def test_every_kind_of_index_keeps_its_answers(luna: str, sim: Simulator, index: object) -> None:
    assert callable(index)
    sim.set(answers=answer, latency_s=0.005, latency_sigma=1.0, keep_requests=0, **FAULTS)

    check(pd.DataFrame({"source": column(500, 2)}, index=index(500)), luna, sim)


def test_every_provider_keeps_rows_and_answers_together(side: Side, sim: Simulator) -> None:
    sim.set(answers=answer, latency_s=0.005, latency_sigma=1.0, keep_requests=0, **dict.fromkeys(FAULTS, 0.03))

    check(pd.DataFrame({"source": column(150, 3)}, index=duplicated(150)), side.model, sim)


def test_a_second_run_in_another_order_keeps_them_together_too(luna: str, sim: Simulator) -> None:
    sim.set(answers=answer)
    frame = pd.DataFrame({"source": column(500, 4)}, index=duplicated(500))
    frame.iloc[::3].llm.parse(Digest, "{source}", model=luna)
    shuffled = frame.sample(frac=1, random_state=0)

    out = shuffled.llm.parse(Digest, "{source}", model=luna)

    assert out["text"].tolist() == shuffled["source"].tolist()
    assert set(out.llm.status) == {"ok", "cached"}
    assert sim.stats().repeated == 0

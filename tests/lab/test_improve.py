"""Better prompts: found where the simulator knows one, none where there is none, and no held-out row is seen."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import MissingPackageError, PllmError, ProviderRejectedError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.near_duplicates import roles_of
from pllm_notebook.sim import SimAnswer, SimRequest

MOODS = ("good", "bad", "mixed")
WORDS = ["apple", "river", "stone", "cloud", "tiger", "maple", "ocean", "frost", "ember", "quilt", "zebra", "lemon"]
PROPOSAL = "The text below is sent to a model"


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad", "mixed"]


def drawn(*parts: object) -> float:
    """Return a number from 0 to 1 that these parts determine."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 16**8


class Task:
    """A task whose right prompt states a rule for each keyword; the simulated model knows the rest.

    The model that proposes finds the rule of one keyword in a row that it is shown with a wrong answer.
    """

    def __init__(self, rules: Mapping[str, str], *, noise: float = 0.0) -> None:
        self.rules, self.noise = rules, noise
        self.asked: Counter[str] = Counter()
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def frame(self, rows: int, seed: int = 0) -> pd.DataFrame:
        texts = []
        for at in range(rows):
            words = [WORDS[int(drawn(seed, at, k) * len(WORDS))] for k in range(6)]
            keyword = [*self.rules, *[""] * len(self.rules)][int(drawn(seed, at, "key") * 2 * len(self.rules))]
            texts.append(" ".join([*words, str(at), keyword]).strip())
        return pd.DataFrame({"text": texts, "gold": [self.truth(text) for text in texts]})

    def truth(self, text: str) -> str:
        keyword = next((word for word in self.rules if word in text.split()), None)
        return MOODS[int(drawn(text) * 3)] if keyword is None else self.rules[keyword]

    def answer(self, request: SimRequest) -> Any:
        if request.prompt.startswith(PROPOSAL):
            with self._lock:
                self.requests.append(request.prompt)
            return f"A rule is missing.\n```\n{self.proposal(request.prompt)}\n```"
        asked = f"{request.system or ''}\n{request.prompt}"
        with self._lock:
            self.asked[asked] += 1
        text = re.findall(r"(?:\w+ ){6}\d+(?: \w+)?", asked)[-1]
        truth = self.truth(text)
        keyword = next((word for word in self.rules if word in text.split()), None)
        if (keyword and f"{keyword} means {truth}" not in asked) or drawn(asked) < self.noise:
            return {"mood": MOODS[(MOODS.index(truth) + 1) % 3]}
        return {"mood": truth}

    def proposal(self, request: str) -> str:
        current = request.split("```")[1].strip()
        for shown in request.split("# Example ")[1:]:
            wrong = re.search(r"Wrong: right is mood = '(\w+)'", shown)
            keyword = next((word for word in self.rules if re.search(rf"\b{word}\b", shown)), None)
            if wrong and keyword:
                return f"{current}\n{keyword} means {wrong[1]}."
        return f"{current}\nBe careful {len(current)}."


TASKS = {
    "one rule": {"refund": "bad"},
    "two rules": {"refund": "bad", "again": "good"},
    "three rules": {"refund": "bad", "again": "good", "however": "mixed"},
}


def ready(task: Task) -> None:
    pllm.configure(sim={"answers": task.answer}, model="sim:openai")


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", TASKS)
def test_the_prompt_that_the_simulator_knows_is_found(cache_dir: Path, name: str) -> None:
    task = Task(TASKS[name])
    ready(task)
    frame = task.frame(180)
    out = frame.llm.parse(Review, "Say what this is: {text}")

    improved = out.llm.improve(against="gold", field="mood", proposals=6)

    assert improved.found
    assert improved.prompt is not None
    assert set(re.findall(r"\w+ means \w+", improved.prompt)) == {f"{k} means {v}" for k, v in task.rules.items()}
    assert improved.prompt.startswith("Say what this is: {text}")
    assert improved.test is not None
    assert improved.test.new_accuracy == 1.0
    assert 0 < improved.test.low <= improved.test.difference
    assert "".join(piece.new for piece in improved.diff) == improved.prompt
    assert repr(improved).startswith("SIMULATED: A better prompt was found")
    assert "<ins>" in improved._repr_html_()
    again = frame.llm.parse(**improved.best())
    assert (again["mood"] == frame["gold"]).all()


@pytest.mark.sample(3)
@pytest.mark.parametrize("seed", range(20))
def test_no_gain_is_reported_where_there_is_none(cache_dir: Path, seed: int) -> None:
    task = Task({"": ""}, noise=0.25)  # no prompt is better than another, and each errs on other rows
    ready(task)
    frame = task.frame(150, seed)
    out = frame.llm.parse(Review, "Say what this is: {text}")

    improved = out.llm.improve(against="gold", field="mood", proposals=5, seed=seed)

    assert not improved.found
    assert improved.prompt == "Say what this is: {text}"
    assert "No improvement found" in repr(improved)


def test_no_held_out_row_is_seen_by_the_model_that_proposes(cache_dir: Path) -> None:
    task = Task({"refund": "bad"}, noise=0.1)
    ready(task)
    frame = task.frame(180)
    frame.loc[1::10, "text"] = frame.loc[0::10, "text"].to_numpy() + "!"  # near-duplicates go together
    frame["gold"] = frame["text"].str.rstrip("!").map(task.truth)
    roles = roles_of(list(frame["text"]))
    out = frame.llm.parse(Review, "Say what this is: {text}")

    improved = out.llm.improve(against="gold", field="mood", proposals=4)

    shown = "\n".join(task.requests)
    seen = {role for text, role in zip(frame["text"], roles, strict=True) if f"{text}\n" in shown}
    assert seen == {"examples"}
    prompts = dict.fromkeys(("validation", "test"), 0)
    for text, role in zip(frame["text"], roles, strict=True):
        if role in prompts:
            prompts[role] = max(prompts[role], sum(f": {text}\n" in f"{asked}\n" for asked in task.asked))
    assert prompts["validation"] > 1
    assert prompts["test"] == 2  # the old prompt and the best
    counts = Counter(roles)
    assert improved.rows == (counts["examples"], counts["validation"], counts["test"])


def test_the_same_call_again_sends_nothing(cache_dir: Path) -> None:
    task = Task({"refund": "bad"}, noise=0.1)
    ready(task)
    out = task.frame(150).llm.parse(Review, "Say what this is: {text}")
    first = out.llm.improve(against="gold", field="mood", proposals=4)
    asked, requests, runs = task.asked.total(), len(task.requests), len(pllm.runs().frame)

    again = out.llm.improve(against="gold", field="mood", proposals=4)

    assert (task.asked.total(), len(task.requests)) == (asked, requests)
    assert len(pllm.runs().frame) == runs
    assert (again.candidate, again.test, again.cost_usd) == (first.candidate, first.test, 0.0)


def test_the_ceiling_holds_and_what_it_ended_is_said(cache_dir: Path) -> None:
    task = Task({"": ""}, noise=0.25)
    ready(task)
    frame = task.frame(150)
    out = frame.llm.parse(Review, "Say what this is: {text}")
    whole = frame.llm.estimate(Review, "Say what it is: {text}").cost_usd
    assert whole is not None

    improved = out.llm.improve(against="gold", field="mood", proposals=100, max_cost_usd=3 * whole)

    assert improved.cost_usd is not None
    assert improved.cost_usd <= 3 * whole
    assert improved.proposed < 100
    assert "ended the search after" in repr(improved)
    with pytest.raises(UsageError, match=r"more than half of max_cost_usd=.* Nothing was sent"):
        out.llm.improve(against="gold", field="mood", max_cost_usd=whole / 100)


def test_without_a_prompt_the_instruction_is_improved(cache_dir: Path) -> None:
    task = Task({"refund": "bad"})
    ready(task)
    frame = task.frame(150)
    out = frame.llm.parse(Review, columns=["text"])

    improved = out.llm.improve(against="gold", field="mood", proposals=3)

    assert improved.found
    assert improved.prompt is None
    assert improved.best()["system"] == improved.text
    assert "refund means bad" in improved.text
    assert (frame.llm.parse(**improved.best())["mood"] == frame["gold"]).all()


def test_a_proposal_that_cannot_be_asked_sends_nothing(cache_dir: Path) -> None:
    task = Task({"refund": "bad"})
    task.proposal = lambda request: "Say it: {txet} refund means bad."  # type: ignore[method-assign]
    ready(task)
    out = task.frame(150).llm.parse(Review, "Say what this is: {text}")
    asked = task.asked.total()

    improved = out.llm.improve(against="gold", field="mood", proposals=3)

    assert improved.proposed == 3
    assert task.asked.total() == asked
    assert "of 3 proposals none is better" in repr(improved)


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (SimAnswer.refusal(), PllmError, "The proposing model made no proposal, so nothing was compared: refusal:"),
        (SimAnswer.status(401), ProviderRejectedError, r"refused \(authentication\)"),
    ],
)
def test_a_model_that_proposes_nothing_is_no_search_without_an_improvement(
    cache_dir: Path, reply: SimAnswer, error: type[PllmError], message: str
) -> None:
    task = Task({"refund": "bad"})
    pllm.configure(
        sim={"answers": lambda request: reply if request.prompt.startswith(PROPOSAL) else task.answer(request)},
        model="sim:openai",
    )
    out = task.frame(180).llm.parse(Review, "Say what this is: {text}")
    asked = task.asked.total()

    with pytest.raises(error, match=message):
        out.llm.improve(against="gold", field="mood", proposals=2)

    assert task.asked.total() == asked


def test_proposals_that_failed_are_counted_apart(cache_dir: Path) -> None:
    task, replies = Task({"refund": "bad"}), iter([SimAnswer.refusal()])
    pllm.configure(
        sim={
            "answers": lambda request: (
                (next(replies, None) if request.prompt.startswith(PROPOSAL) else None) or task.answer(request)
            )
        },
        model="sim:openai",
    )
    out = task.frame(180).llm.parse(Review, "Say what this is: {text}")

    improved = out.llm.improve(against="gold", field="mood", proposals=2)

    assert improved.proposed == 1
    assert "1 proposal failed: refusal" in repr(improved)


def test_an_unknown_model_to_propose_is_refused_before_anything_is_sent(cache_dir: Path) -> None:
    task = Task({"refund": "bad"})
    ready(task)
    out = task.frame(180).llm.parse(Review, "Say what this is: {text}")

    with pytest.raises(PllmError, match="There is no provider 'openay'"):
        out.llm.improve(against="gold", field="mood", proposer="openay:x")

    assert task.requests == []


def test_what_cannot_be_improved_is_refused(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task({"refund": "bad"})
    ready(task)
    frame = task.frame(150)
    out = frame.llm.parse(Review, "Say what this is: {text}")
    asked = task.asked.total()

    with pytest.raises(UsageError, match=r"at least 15 distinct labelled rows.*Nothing was sent"):
        out.head(30).llm.improve(against="gold", field="mood")
    with pytest.raises(UsageError, match="samples= is not given"):
        out.llm.improve(against="gold", field="mood", samples=3)
    with pytest.raises(UsageError, match="proposals is a whole number"):
        out.llm.improve(against="gold", field="mood", proposals=0)
    with pytest.raises(PllmError, match=r"No .*run"):
        frame.assign(text="x").llm.improve(against="gold", field="mood")
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'pllm_notebook\[improve\]'"):
        out.llm.improve(against="gold", field="mood")
    assert task.asked.total() == asked


def test_an_earlier_kernels_run_with_examples_takes_them_again(cache_dir: Path) -> None:
    task = Task(TASKS["one rule"])
    ready(task)
    shown = task.frame(4, seed=9).rename(columns={"gold": "mood"})
    out = task.frame(150).llm.parse(Review, "Say what this is: {text}", examples=shown)
    run_registry.forget_all()  # the registry holds no text of rows

    for ask in (lambda **how: out.llm.improve(Review, against="gold", field="mood", proposals=2, **how),
                lambda **how: out.llm.recheck(Review, n=5, **how)):  # fmt: skip
        with pytest.raises(PllmError, match="pass the same ones as examples="):
            ask()
        assert ask(examples=shown) is not None

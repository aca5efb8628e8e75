"""Values without evidence, asked for once more: what is sent, what of the answer changes, and what it costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field, model_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

TEXT = "It is really fine, five stars."


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad"]
    stars: int | None = Field(alias="numStars")
    summary: str | None


FIRST = {
    "evidence": {"mood": "really fine", "numStars": "six stars", "summary": None},
    "answer": {"mood": "good", "numStars": 6, "summary": None},
}
SECOND = {
    "evidence": {"mood": "invented", "numStars": "five stars", "summary": "fine"},
    "answer": {"mood": "bad", "numStars": 5, "summary": "fine"},
}


def is_again(request: SimRequest) -> bool:
    return "No passage of the text" in request.prompt


class Answers:
    """A first answer to each row, and a second one where it is asked once more."""

    def __init__(self, first: Any = FIRST, second: Any = SECOND) -> None:
        self.first, self.second = first, second
        self.asked: list[str] = []

    def __call__(self, request: SimRequest) -> Any:
        self.asked.append(request.prompt)
        return self.second if is_again(request) else self.first


@pytest.fixture
def answers(cache_dir: object) -> Callable[..., Answers]:
    def make(first: Any = FIRST, second: Any = SECOND, **options: Any) -> Answers:
        made = Answers(first, second)
        pllm.configure(sim={"answers": made, **options}, model="sim:openai")
        return made

    return make


def ask(*texts: str, kind: Any = Review, **options: Any) -> Any:
    frame = pd.DataFrame({"text": texts or (TEXT,)})
    return frame.llm.parse(kind, "{text}", **{"evidence": "retry"} | options)


def lines(out: Any) -> list[list[Any]]:
    table: list[list[Any]] = out.llm.evidence[["field", "quote", "verified"]].to_numpy(dtype=object).tolist()
    return table


def test_a_second_answer_replaces_only_what_lacked_evidence(answers: Callable[..., Answers], kit: FrameKit) -> None:
    made = answers()
    frame = kit.frame({"text": [TEXT]})

    out = kit.llm(frame).parse(Review, "{text}", evidence="retry")

    (row,) = kit.rows(out)
    assert (str(row["mood"]), row["stars"], row["summary"]) == ("good", 5, None)
    assert len(made.asked) == 2
    assert "- numStars\nAnswer again" in made.asked[1]
    assert [(line["quote"], line["verified"]) for line in kit.rows(kit.llm(out).evidence)] == [
        ("really fine", True),
        ("five stars", True),
        (None, False),
    ]


def test_a_row_whose_quotes_are_all_found_is_asked_once(answers: Callable[..., Answers]) -> None:
    made = answers(first=SECOND | {"evidence": {"mood": "fine", "numStars": "five stars", "summary": "fine"}})

    ask()

    assert len(made.asked) == 1


def test_nothing_is_asked_for_where_the_answer_says_nothing(answers: Callable[..., Answers]) -> None:
    nothing = {"evidence": {"mood": "fine", "numStars": None, "summary": None},
               "answer": {"mood": "good", "numStars": None, "summary": None}}  # fmt: skip
    made = answers(first=nothing)

    ask()

    assert len(made.asked) == 1


def test_running_the_cell_again_and_a_later_kernel_have_the_same_and_send_nothing(
    answers: Callable[..., Answers],
) -> None:
    made = answers()
    out = ask(TEXT, "Other text, five stars.")
    before, said = out[["mood", "stars", "summary"]], lines(out)
    sent = len(made.asked)

    again = ask(TEXT, "Other text, five stars.")

    assert len(made.asked) == sent
    assert again.llm.status.tolist() == ["cached", "cached"]
    pd.testing.assert_frame_equal(again[["mood", "stars", "summary"]], before)
    run_registry.forget_all()
    assert lines(out) == said
    assert out.llm.run.to_frame()["stars"].tolist() == before["stars"].tolist()
    assert ask(TEXT, cache="only")["stars"].tolist() == [5]
    assert len(made.asked) == sent


def test_the_answers_of_a_plain_run_with_quotes_are_the_first_answers(answers: Callable[..., Answers]) -> None:
    made = answers()
    plain = ask(evidence=True)

    out = ask()

    assert (plain["stars"].tolist(), out["stars"].tolist()) == ([6], [5])
    assert len(made.asked) == 2
    assert ask(evidence=True)["stars"].tolist() == [6]


@pytest.mark.parametrize(
    "second",
    [
        SimAnswer.status(400),
        SimAnswer.refusal("No."),
        "no JSON",
        {"evidence": SECOND["evidence"], "answer": {"mood": "so-so", "numStars": 5, "summary": "x"}},
    ],
    ids=["failed", "refused", "no JSON", "invalid"],
)
def test_a_second_answer_that_is_none_changes_nothing(answers: Callable[..., Answers], second: Any) -> None:
    made = answers(second=second)

    out = ask(max_retries=0)

    assert (out["mood"].tolist(), out["stars"].tolist()) == (["good"], [6])
    assert len(made.asked) == 2
    assert out.llm.errors.empty
    assert lines(out)[1] == ["stars", "six stars", False]
    run_registry.forget_all()
    assert lines(out)[1] == ["stars", "six stars", False]
    assert out.llm.run.to_frame()["stars"].tolist() == [6]


def test_a_second_answer_without_evidence_takes_the_place_too(answers: Callable[..., Answers]) -> None:
    second = {"evidence": {"mood": None, "numStars": None, "summary": None},
              "answer": {"mood": "bad", "numStars": None, "summary": None}}  # fmt: skip
    made = answers(second=second)

    out = ask()

    assert out["stars"].isna().tolist() == [True]
    assert len(made.asked) == 2


def test_validators_see_the_two_answers_as_one(answers: Callable[..., Answers]) -> None:
    class Strict(Review):
        @model_validator(mode="after")
        def agrees(self) -> Strict:
            if self.mood == "good" and self.stars == 5:
                raise ValueError("not these two")
            return self

    answers()

    out = ask(kind=Strict)

    assert (out["mood"].tolist(), out["stars"].tolist()) == (["good"], [6])


def test_a_repaired_answer_is_asked_for_its_evidence_too(answers: Callable[..., Answers]) -> None:
    made = answers()
    wrong = {"evidence": FIRST["evidence"], "answer": {"mood": "so-so", "numStars": 6, "summary": None}}
    pllm.configure(
        sim={"answers": lambda request: made(request) if is_again(request) or "schema" in request.prompt else wrong}
    )

    out = ask()

    assert (out["mood"].tolist(), out["stars"].tolist()) == (["good"], [5])
    said = lines(out)
    run_registry.forget_all()
    assert lines(out) == said
    assert out.llm.run.to_frame()["stars"].tolist() == [5]


@pytest.mark.parametrize(("kind", "first", "second"), [(bool, True, False), (list[str], ["x"], ["fine"])])
def test_a_type_without_fields_is_asked_for_whole(
    answers: Callable[..., Answers], kind: Any, first: Any, second: Any
) -> None:
    answers(
        first={"evidence": {"answer": "x"}, "answer": first}, second={"evidence": {"answer": "fine"}, "answer": second}
    )

    out = ask(kind=kind)

    assert out["answer"].tolist() == [second]
    assert lines(out) == [["answer", "fine", True]]
    run_registry.forget_all()
    assert out.llm.run.to_frame()["answer"].tolist() == [second]


def test_estimate_counts_what_may_be_asked_once_more(answers: Callable[..., Answers]) -> None:
    answers()
    frame = pd.DataFrame({"text": [TEXT, "Other text, five stars."]})

    before = frame.llm.estimate(Review, "{text}", evidence="retry")
    ask(TEXT, evidence=True)
    known = frame.llm.estimate(Review, "{text}", evidence="retry")
    ask(TEXT, "Other text, five stars.")
    after = frame.llm.estimate(Review, "{text}", evidence="retry")

    assert (before.calls, before.again) == (2, 2)
    assert "at most 2 calls, for quotes that are not found" in repr(before)
    assert (known.calls, known.again) == (1, 2)
    assert (after.calls, after.again) == (0, 0)
    assert frame.llm.estimate(Review, "{text}", evidence=True).again == 0


def test_a_batch_asks_once_more_too(answers: Callable[..., Answers]) -> None:
    answers()

    out = ask(mode="batch", confirm=False)

    assert out["stars"].tolist() == [5]


def test_the_explanation_names_both_answers_and_their_cost(answers: Callable[..., Answers]) -> None:
    answers()
    out = ask()

    explained = out.llm.explain(0)

    assert explained.steps == (
        "the model answered",
        "the model, asked once more for evidence of numStars, answered",
    )
    assert explained.evidence[1] == "stars: 'five stars' in text, characters 19 to 29"
    assert explained.value.stars == 5


def test_a_second_answer_that_changes_nothing_is_explained_as_such(answers: Callable[..., Answers]) -> None:
    answers(second=SimAnswer.refusal("No."))

    assert ask().llm.explain(0).steps[1] == (
        "the model, asked once more for evidence of numStars (the first answer stays), answered"
    )


def test_a_ceiling_that_pays_for_first_answers_alone_keeps_them(answers: Callable[..., Answers]) -> None:
    texts = [f"{TEXT} {number}" for number in range(6)]
    made = answers()
    plain = ask(*texts, evidence=True)
    assert plain.llm.run.cost is not None
    paid, first = plain.llm.run.cost, len(made.asked)

    with pytest.warns(UserWarning, match=r"6 rows were not asked once more for evidence, since max_cost_usd left no"):
        out = ask(*texts, max_cost_usd=paid / 1_000)  # the first answers are cached: no second one can be paid

    assert len(made.asked) == first
    assert out["stars"].tolist() == [6] * 6
    assert set(out.llm.status) == {"cached"}
    assert out.llm.errors.empty
    assert out.llm.run.state == "done"

    whole = ask(*texts, max_cost_usd=1)

    assert whole["stars"].tolist() == [5] * 6
    assert len(made.asked) == first + 6


def test_a_ceiling_that_first_answers_nearly_take_is_not_passed_by_second_ones(
    answers: Callable[..., Answers],
) -> None:
    texts = [f"{TEXT} {number}" for number in range(20)]
    answers()
    price = ask(*texts, evidence=True, salt="price").llm.run.cost
    assert price is not None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = ask(*texts, max_cost_usd=1.5 * price, errors="coerce")

    assert out.llm.run.cost <= 1.5 * price
    assert set(out.llm.status) <= {"ok", "not_sent"}
    assert out.llm.errors.empty
    assert out["stars"].dropna().isin([5, 6]).all()
    assert ask(*texts, max_cost_usd=1)["stars"].tolist() == [5] * 20


def test_images_would_be_asked_about_twice_each(answers: Callable[..., Answers]) -> None:
    made = answers()

    with pytest.raises(UsageError, match=r"evidence='retry' cannot be combined with images=: .*Nothing was sent"):
        pd.DataFrame({"photo": ["a.png"]}).llm.parse(Review, images="photo", evidence="retry")
    with pytest.raises(UsageError, match="evidence"):
        ask(evidence="again")

    assert made.asked == []

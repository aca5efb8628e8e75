"""Majorities, agreement, and the order in which a judge sees answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired

import pytest
from pydantic import BaseModel, Field
from pydantic_core import to_json
from typing_extensions import TypedDict

from pllm_notebook.ensemble import Vote, VoteCount, render_judge_prompt
from pllm_notebook.ensemble.judge_prompt import Scores, scores_of, shown_order
from pllm_notebook.ensemble.votes import identity
from pllm_notebook.exceptions import UsageError
from pllm_notebook.schema import OutputType


class Item(BaseModel):
    name: str
    price: float
    count: int
    tags: list[str] = []


def items(*rows: tuple[Any, ...]) -> VoteCount:
    fields = ("name", "price", "count", "tags")
    return VoteCount(OutputType.of(Item), [Item(**dict(zip(fields, row, strict=True))) for row in rows])


def test_each_field_has_its_own_majority() -> None:
    tally = items(("a", 1.0, 1, ["x"]), ("a", 2.0, 2, ["x"]), ("b", 2.0, 1, ["y"]))

    value, at = tally.majority(Vote())

    assert value == Item(name="a", price=2.0, count=1, tags=["x"])
    assert at is None


def test_a_tie_goes_to_the_earliest_sample() -> None:
    value, at = items(("a", 1.0, 1, []), ("b", 2.0, 2, [])).majority(Vote())

    assert (value.name, at) == ("a", 0)


def test_a_majority_that_is_one_sample_s_answer_is_that_sample_s_own_object() -> None:
    tally = items(("a", 1.0, 1, []), ("b", 2.0, 2, []), ("b", 2.0, 2, []))

    value, at = tally.majority(Vote())

    assert value is tally.values[1]
    assert at == 1


def test_numbers_can_have_a_median_and_whole_numbers_stay_whole() -> None:
    tally = items(("a", 1.0, 1, []), ("a", 4.0, 2, []), ("a", 2.0, 9, []), ("a", 3.0, 4, []))

    value, _ = tally.majority(Vote(numbers="median"))

    assert value.price == 2.5
    assert value.count == 2


def test_lists_can_be_united_or_intersected_in_order() -> None:
    tally = items(("a", 1.0, 1, ["x", "y"]), ("a", 1.0, 1, ["z", "y"]), ("a", 1.0, 1, ["y"]))

    assert tally.majority(Vote(lists="union"))[0].tags == ["x", "y", "z"]
    assert tally.majority(Vote(lists="intersection"))[0].tags == ["y"]


def test_one_field_can_have_a_rule_of_its_own() -> None:
    tally = items(("a", 1.0, 1, []), ("a", 9.0, 1, []), ("a", 5.0, 7, []), ("a", 1.0, 8, []), ("a", 9.0, 9, []))

    value, _ = tally.majority(Vote(fields={"count": "median"}))

    assert (value.count, value.price) == (7, 1.0)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Vote(numbers="mean"), "numbers is one of 'majority', 'median', not 'mean'"),  # type: ignore[arg-type]
        (lambda: Vote(lists="all"), "lists is one of"),  # type: ignore[arg-type]
        (lambda: Vote(fields={"tags": "joint"}), "fields\\['tags'\\]"),  # type: ignore[dict-item]
        (lambda: Vote(fields={"tag": "union"}).check(OutputType.of(Item)), "Did you mean 'tags'"),
    ],
)
def test_a_rule_that_is_none_is_refused(make: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make()


@pytest.mark.parametrize(
    ("kind", "values", "most"),
    [
        (bool, [True, False, False], False),
        (Literal["a", "b"], ["b", "a", "b"], "b"),
        (list[int], [[1], [1, 2], [1, 2]], [1, 2]),
        (set[str], [{"x", "y"}, {"y", "x"}, {"z"}], {"x", "y"}),
        (Decimal, [Decimal("1.10"), Decimal("2"), Decimal("2")], Decimal("2")),
        (float, [float("nan"), float("nan"), 1.0], float("nan")),
        (None, ["A", "B", "B"], "B"),
    ],
    ids=["bool", "literal", "list", "set", "decimal", "float", "text"],
)
def test_a_type_without_fields_is_voted_on_whole(kind: Any, values: list[Any], most: Any) -> None:
    tally = VoteCount(None if kind is None else OutputType.of(kind), values)

    value, _ = tally.majority(Vote())

    assert identity(value) == identity(most)
    assert tally.whole == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("kind", "vote", "values", "most"),
    [
        (
            Annotated[list[str], Field(max_length=2)],
            Vote(lists="union"),
            [["a", "b"], ["c", "d"], ["c", "d"]],
            ["c", "d"],
        ),
        (Annotated[list[str], Field(min_length=1)], Vote(lists="intersection"), [["a"], ["b"]], ["a"]),
        (Annotated[float, Field(multiple_of=1)], Vote(numbers="median"), [1.0, 2.0], 1.0),
    ],
    ids=["union", "intersection", "median"],
)
def test_a_combination_that_a_type_without_fields_refuses_is_replaced_by_the_most_common_answer(
    kind: Any, vote: Vote, values: list[Any], most: Any
) -> None:
    value, at = VoteCount(OutputType.of(kind), values).majority(vote)

    assert (value, at) == (most, values.index(most))


class Offer(BaseModel):
    price: Decimal = Field(alias="Price")
    tags: set[str] = set()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("9.5"), Decimal("9.50")),
        (Decimal("100"), Decimal("1E+2")),
        (Decimal("0"), Decimal("-0.00")),
        (0.0, -0.0),
        ([{"a", "b", "c", "d"}], [{"d", "c", "b", "a"}]),
        ([Decimal("1")], [Decimal("1.0")]),
        ({"a": 1, "b": -0.0}, {"b": 0.0, "a": 1}),
        (Offer(Price=Decimal("1"), tags={"a", "b", "c"}), Offer(Price=Decimal("1.0"), tags={"c", "b", "a"})),
        ((frozenset({frozenset("ab")}),), (frozenset({frozenset("ba")}),)),
    ],
)
def test_equal_values_are_one_answer(one: Any, other: Any) -> None:
    assert one == other

    assert identity(one) == identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1." + "0" * 30 + "1"), Decimal("1." + "0" * 30 + "2")),
        (Decimal("1E+2"), Decimal("1E+3")),
        (Decimal("NaN"), Decimal("Infinity")),
        ([1, 2], [2, 1]),
        (True, 1),
        ({"a": 1}, {"a": 2}),
    ],
)
def test_different_values_are_two_answers(one: Any, other: Any) -> None:
    assert identity(one) != identity(other)


def test_the_order_of_sets_inside_lists_does_not_split_votes() -> None:
    # In sets of these whole numbers, the order of insertion decides the order of iteration.
    values = [[{0, 8}], [{8, 0}], [{1}]]
    assert list(values[0][0]) != list(values[1][0])

    assert VoteCount(OutputType.of(list[set[int]]), values).whole == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("value", "json"),
    [(Decimal("9.5"), b'"9.5"'), (Decimal("1200"), b'"1200"'), (1.5, b"1.5"), (Offer(Price=Decimal(2)), None),
     ({"a": [1, None, "x"]}, None), (float("nan"), b"NaN")],
)  # fmt: skip
def test_the_identity_of_a_value_is_its_json(value: Any, json: bytes | None) -> None:
    """A judge's stored reply is found by the order of the candidates, which is drawn from these bytes."""
    assert identity(value) == (to_json(value) if json is None else json)


def test_typed_dicts_dataclasses_and_aliases_can_be_mixed() -> None:
    class Loose(TypedDict):
        a: int
        b: NotRequired[int]

    @dataclass
    class Plain:
        a: int
        b: int

    class Aliased(BaseModel):
        a: int = Field(alias="first-part")
        b: int = Field(alias="second-part")

    rows = [(1, 1), (1, 2), (2, 2)]
    loose = VoteCount(OutputType.of(Loose), [{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 1}])
    plain = VoteCount(OutputType.of(Plain), [Plain(*row) for row in [(1, 1), (3, 2), (1, 2), (3, 2), (1, 3)]])
    aliased = VoteCount(
        OutputType.of(Aliased), [Aliased(**{"first-part": a, "second-part": b}) for a, b in [*rows, (1, 3), (4, 2)]]
    )

    assert loose.majority(Vote())[0] == {"a": 1, "b": 1}
    assert plain.majority(Vote())[0] == Plain(1, 2)
    assert aliased.majority(Vote())[0].b == 2


def test_agreement_is_the_share_of_the_most_common_value() -> None:
    tally = items(("a", 1.0, 1, []), ("a", 2.0, 1, []), ("b", 3.0, 1, []), ("a", 4.0, 1, []))

    assert tally.agreement == (0.75, 0.25, 1.0, 1.0)
    assert tally.whole == 0.25
    assert not tally.unanimous


def test_a_judge_s_order_depends_on_the_question_and_not_on_who_answered_first() -> None:
    one, other = VoteCount(None, ["x", "y", "z"]), VoteCount(None, ["z", "x", "y"])

    assert render_judge_prompt("q", None, one) == render_judge_prompt("q", None, other)


def test_no_place_is_favoured_across_questions() -> None:
    first = Counter(shown_order(f"question {n}", VoteCount(None, ["x", "y", "z"]))[0] for n in range(3000))

    # Each has the first place 1,000 times within five standard deviations.
    assert all(abs(times - 1000) < 5 * 26 for times in first.values())


def test_marks_for_candidates_that_are_none_are_no_marks() -> None:
    marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 8)
    scores = [Scores(candidate=number, **marks) for number in (0, 2, 7)]

    assert scores_of(scores, [4, 1]) == {1: 8.0}

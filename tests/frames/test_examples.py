"""`examples=`: a row sees rows with right answers as turns, never itself or one nearly like it."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.item_lists import submit_list
from pllm_notebook.frames.near_duplicates import Fingerprints, near_duplicate_groups, roles_of
from pllm_notebook.sim import SimRequest

from .frame_libraries import FrameKit


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["good", "bad"]
    note: str = "none"


class Scores(BaseModel):
    by: dict[str, int]
    pair: tuple[int, str] = Field(alias="Pair")


TEXTS = ["The soup was lovely and hot", "Cold soup, rude waiter", "It rained all day long"]
GOLD = {"text": ["A pleasant evening", "Never again", "Two thumbs up"], "mood": ["good", "bad", "good"]}

# A deque, which is no JSON: the values that an answering function refers to are part of its calls' keys.
SEEN: deque[SimRequest] = deque()


def answer(request: SimRequest) -> Any:
    SEEN.append(request)
    if request.schema is None:
        return "text"
    return {"mood": "good", "note": "x"} if "mood" in str(request.schema) else None


@pytest.fixture(autouse=True)
def _simulated(cache_dir: Path) -> None:
    SEEN.clear()
    pllm.configure(sim={"answers": answer}, model="sim:openai")


def turns(text: str) -> list[tuple[str, str]]:
    """Return what the call whose prompt ends with *text* was shown before it."""
    (found,) = [request for request in SEEN if request.prompt.endswith(text)]
    assert found.messages[-1] == ("user", found.prompt)
    return list(found.messages[:-1])


SHOWN = [
    ("user", "Read: A pleasant evening"),
    ("assistant", '{"mood":"good","note":"none"}'),
    ("user", "Read: Never again"),
    ("assistant", '{"mood":"bad","note":"none"}'),
    ("user", "Read: Two thumbs up"),
    ("assistant", '{"mood":"good","note":"none"}'),
]


def test_examples_are_turns_with_the_answer_as_the_model_would_give_it(kit: FrameKit) -> None:
    frame = kit.frame({"text": TEXTS})

    out = kit.llm(frame).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))

    assert kit.column(out, "mood") == ["good"] * 3
    assert [turns(text) for text in TEXTS] == [SHOWN] * 3
    again = kit.llm(frame).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))
    assert kit.values(kit.llm(again).status) == ["cached"] * 3
    assert kit.llm(out).explain(0).examples[1] == 'Read: Never again → {"mood":"bad","note":"none"}'


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "given",
    [
        [{"text": text, "mood": mood} for text, mood in zip(*GOLD.values(), strict=True)],
        [(text, {"mood": mood}) for text, mood in zip(*GOLD.values(), strict=True)],
        [({"text": text}, Mood(mood=mood)) for text, mood in zip(*GOLD.values(), strict=True)],  # type: ignore[arg-type]
        GOLD | {"more": [1, 1, 1]},
    ],
)
def test_a_frame_a_list_of_rows_and_a_list_of_pairs_are_one_question(kit: FrameKit, given: Any) -> None:
    kit.llm(kit.frame({"text": TEXTS})).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))

    examples = kit.frame(given) if isinstance(given, dict) else given
    out = kit.llm(kit.frame({"text": TEXTS})).parse(Mood, "Read: {text}", examples=examples)

    assert kit.values(kit.llm(out).status) == ["cached"] * 3


def test_other_examples_are_another_question(kit: FrameKit) -> None:
    df = kit.frame({"text": TEXTS[:1]})
    kit.llm(df).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))

    changed = kit.llm(df).parse(Mood, "Read: {text}", examples=kit.take(kit.frame(GOLD), [0, 1]))
    without = kit.llm(df).parse(Mood, "Read: {text}")

    assert (kit.values(kit.llm(changed).status), kit.values(kit.llm(without).status)) == (["ok"], ["ok"])


def test_text_and_a_column_alone_take_examples_too(kit: FrameKit) -> None:
    series = kit.series(["bread", "milk"], "word")

    kit.llm(series).complete("French: {value}", examples=[("water", "eau"), ("wine", "vin")])
    submit_list(["cheese"], None, "French: {value}", examples=[("water", "eau")]).result()

    wine = [("user", "French: water"), ("assistant", "eau"), ("user", "French: wine"), ("assistant", "vin")]
    assert turns("bread") == wine
    assert turns("cheese") == wine[:2]


def test_an_answer_is_written_in_the_form_that_the_model_is_asked_for(kit: FrameKit) -> None:
    given = [("a", {"by": {"x": 1}, "Pair": [2, "two"]})]

    kit.llm(kit.frame({"text": ["some words"]})).parse(Scores, "{text}", examples=given)
    kit.llm(kit.frame({"text": ["some words"]})).parse(
        list[int], "{text}", examples=[("b", [1, 2])], model="sim:anthropic"
    )

    shown = [request.messages[1][1] for request in SEEN if len(request.messages) > 1]
    assert '{"by":[{"key":"x","value":1}],"Pair":{"item_1":2,"item_2":"two"}}' in shown
    assert '{"value":[1,2]}' in shown


def test_a_row_is_not_shown_itself_nor_one_nearly_like_it(kit: FrameKit) -> None:
    frame = kit.frame({"text": ["A pleasant evening", "a PLEASANT evening!", "Another evening, a long one"]})

    out = kit.llm(frame).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))

    assert turns("A pleasant evening") == turns("a PLEASANT evening!") == SHOWN[2:]
    assert turns("a long one") == SHOWN
    assert kit.column(out, "mood") == ["good"] * 3


@pytest.mark.sample(3)
@pytest.mark.parametrize("selection", ["first", "diverse", "nearest"])
def test_the_same_row_has_the_same_examples_in_any_frame(kit: FrameKit, selection: str) -> None:
    rng = random.Random(1)
    words = ["soup", "waiter", "rain", "music", "price", "chair", "wine", "door", "night", "salt"]
    texts = [" ".join(rng.sample(words, 5)) for _ in range(40)]
    gold = kit.frame({"text": texts[:20], "mood": ["good", "bad"] * 10})
    df = kit.frame({"text": texts})
    options = {"examples": gold, "example_selection": selection, "max_examples": 4}
    kit.llm(kit.take(df, range(5))).parse(Mood, "Read: {text}", **options)
    order = rng.sample(range(40), 40)

    out = kit.llm(kit.take(df, order)).parse(Mood, "Read: {text}", **options)

    status = dict(zip(order, kit.values(kit.llm(out).status), strict=True))
    assert status == {row: "cached" if row < 5 else "ok" for row in range(40)}
    assert {len(request.messages) for request in SEEN} <= {7, 9}


def test_the_nearest_comes_last(kit: FrameKit) -> None:
    gold = kit.frame({"text": ["rain and wind", "the soup was cold", "loud music"], "mood": ["bad"] * 3})
    df = kit.frame({"text": ["wind and more rain", "cold soup again"]})

    kit.llm(df).parse(Mood, "{text}", examples=gold, example_selection="nearest", max_examples=2)

    assert turns("more rain")[2] == ("user", "rain and wind")
    assert turns("soup again")[2] == ("user", "the soup was cold")
    assert len(turns("more rain")) == 4


def test_examples_keep_within_their_tokens(kit: FrameKit) -> None:
    gold = kit.frame({"text": ["a" * 400, "short", "b" * 400], "mood": ["good"] * 3})
    df = kit.frame({"text": TEXTS[:1]})

    kit.llm(df).parse(Mood, "{text}", examples=gold, max_example_tokens=150)

    assert [text[:5] for role, text in turns(TEXTS[0]) if role == "user"] == ["aaaaa", "short"]
    with pytest.raises(UsageError, match=r"No example has room within max_example_tokens=5: .*Nothing was sent\."):
        kit.llm(df).parse(Mood, "{text}", examples=gold, max_example_tokens=5)


def test_an_estimate_counts_examples_and_a_preview_shows_them(kit: FrameKit) -> None:
    df = kit.frame({"text": TEXTS})
    gold = kit.frame(GOLD)

    more = kit.llm(df).estimate(Mood, "Read: {text}", examples=gold)
    less = kit.llm(df).estimate(Mood, "Read: {text}")
    shown = kit.llm(df).preview(Mood, "Read: {text}", rows=1, examples=gold)

    assert more.input_tokens > less.input_tokens + 3 * 40
    assert shown.examples[0] == 'Read: A pleasant evening → {"mood":"good","note":"none"}'
    assert "Examples:\nRead: A pleasant evening" in repr(shown)
    assert "Never again" in shown._repr_html_()


def test_a_batch_shows_them_and_shares_its_answers(kit: FrameKit) -> None:
    df = kit.frame({"text": TEXTS})
    options: dict[str, Any] = {"examples": kit.frame(GOLD)}

    lines = kit.llm(df).request_lines(Mood, "Read: {text}", **options)
    out = kit.llm(df).parse(Mood, "Read: {text}", mode="batch", confirm=False, wait=True, **options)

    assert lines[0].count('"role":"assistant"') == 3
    assert kit.values(kit.llm(out).status) == ["ok"] * 3
    assert [turns(text) for text in TEXTS] == [SHOWN] * 3
    assert kit.values(kit.llm(kit.llm(df).parse(Mood, "Read: {text}", **options)).status) == ["cached"] * 3


def test_several_models_and_samples_see_them_and_a_judge_does_not(kit: FrameKit) -> None:
    df = kit.frame({"text": TEXTS[:1]})

    kit.llm(df).parse(
        Mood, "Read: {text}", examples=kit.frame(GOLD), models=["sim:openai", "sim:anthropic"], decide="judge"
    )

    assert all(list(request.messages[:-1]) == SHOWN for request in SEEN)
    assert {request.provider for request in SEEN} == {"openai", "anthropic"}


def test_a_repair_turn_comes_behind_them(kit: FrameKit) -> None:
    def wrong(request: SimRequest) -> Any:
        SEEN.append(request)
        return {"mood": "good" if "does not fit" in request.prompt else "odd", "note": "x"}

    pllm.configure(sim={"answers": wrong})

    out = kit.llm(kit.frame({"text": ["x y z"]})).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))

    assert kit.column(out, "mood") == ["good"]
    repair = max(SEEN, key=lambda request: len(request.messages))
    assert list(repair.messages[:6]) == SHOWN
    assert [role for role, _ in repair.messages[6:]] == ["user", "assistant", "user"]


BAD: list[tuple[Any, str]] = [
    ({"txt": ["a"], "mood": ["good"]}, "names column 'text', but examples= has .*'txt'.*Did you mean"),
    ({"text": ["a"], "mod": ["good"]}, "The answer names column 'mood', but examples= has"),
    ({"text": ["a"], "mood": ["fine"]}, "Row 0 of examples= has an answer that is no Mood: mood"),
    ({"text": ["a"], "mood": [None]}, "examples= has no row with an answer"),
    ({"text": [], "mood": []}, "examples= has no row with an answer"),
    ([], "examples= has no row with an answer"),
    (["text"], "Item 0 of examples= is 'text', where a list of pairs"),
    ([("a", "good")], "Item 0 of examples= has an answer that is no Mood"),
    ([({"txt": "a"}, {"mood": "good"})], "names column 'text'"),
    ("gold", "examples is a frame, a list of rows or of pairs, or"),
    (3, "examples is a frame, a list of rows or of pairs, or"),
    ("labels", "the cache directory has no row with the columns"),
]


@pytest.mark.sample(12)
@pytest.mark.parametrize(("given", "message"), BAD)
def test_what_cannot_be_an_example_is_an_error_before_anything_is_sent(kit: FrameKit, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=rf"(?s){message}.*Nothing was sent\."):
        kit.llm(kit.frame({"text": TEXTS})).parse(
            Mood, "Read: {text}", examples=kit.frame(given) if isinstance(given, dict) else given
        )

    assert not SEEN


@pytest.mark.parametrize("options", [{"pack": 2}, {"evidence": True}])
def test_examples_do_not_go_with_everything(kit: FrameKit, options: Any) -> None:
    with pytest.raises(UsageError, match=r"Nothing was sent\."):
        kit.llm(kit.frame({"text": TEXTS})).parse(Mood, "{text}", examples=kit.frame(GOLD), **options)


def test_a_group_may_have_its_examples_in_a_column_of_the_instruction(kit: FrameKit) -> None:
    df = kit.frame({"text": TEXTS[:2], "language": ["fr", "de"]})
    few = kit.put(df, "few", ["bread: pain", "bread: Brot"])

    kit.llm(few).complete("{text}", system="Translate into {language}. Examples: {few}")

    assert sorted(request.system or "" for request in SEEN) == [
        "Translate into de. Examples: bread: Brot",
        "Translate into fr. Examples: bread: pain",
    ]


def varied(rng: random.Random, text: str) -> str:
    """Return *text* as people copy it: another case, other punctuation, a typing error at times."""
    words = text.split()
    if rng.random() < 0.3:
        words = [word.upper() if rng.random() < 0.2 else word for word in words]
    changed = rng.choice([" ", "  ", ", "]).join(words) + rng.choice(["", ".", "!"])
    return changed if rng.random() < 0.5 else changed.replace("e", "é", 1)


def near(one: str, other: str) -> bool:
    return bool(Fingerprints([one]).near(other))


def with_copies(seed: int) -> dict[str, list[str]]:
    rng = random.Random(seed)
    words = [
        f"{a}{b}" for a in ("stone", "river", "cloud", "table", "green", "quiet") for b in ("s", "less", "ful", "er")
    ]
    texts = [" ".join(rng.choices(words, k=12)) for _ in range(25)]
    texts += [varied(rng, rng.choice(texts)) for _ in range(25)]
    rng.shuffle(texts)
    return {"text": texts, "gold": [rng.choice(["good", "bad"]) for _ in texts]}


@pytest.mark.sample(6)
@pytest.mark.parametrize("selection", ["first", "nearest"])
@pytest.mark.parametrize("seed", range(3))
def test_no_labelled_row_or_near_duplicate_is_both_example_and_evaluated(
    kit: FrameKit, seed: int, selection: str
) -> None:
    columns = with_copies(seed)
    texts = columns["text"]
    df = kit.frame(columns)
    gold = kit.rename(kit.take(df, random.Random(seed).sample(range(len(texts)), 20)), "gold", "mood")

    out = kit.llm(df).parse(Mood, "{text}", examples=gold, example_selection=selection, max_example_tokens=600)

    examples = {text for request in SEEN for role, text in request.messages[:-1] if role == "user"}
    for request in SEEN:  # none is shown itself
        own = [text for role, text in request.messages[:-1] if role == "user"]
        assert not any(near(text, request.prompt) for text in own)
    among = [any(near(example, text) for example in examples) for text in texts]
    assert examples <= set(kit.column(gold, "text"))
    assert any(among)
    measured = kit.llm(out).evaluate(against="gold", field="mood")
    run_registry.forget_all()  # as another kernel has it, from the registry
    recorded = kit.llm(out).evaluate(against="gold", field="mood")
    for each in (measured, recorded):
        assert each.answered + each.examples == len(texts)
        assert each.examples >= sum(among)
        if selection == "first":
            assert each.examples == sum(among)
    # Those that are left are near no example.
    evaluated = np.flatnonzero(~np.array(among))[: measured.answered]
    assert not any(near(example, texts[row]) for row in evaluated for example in examples)


def test_a_comparison_leaves_out_what_either_side_was_shown(kit: FrameKit) -> None:
    df = kit.frame({"text": [*TEXTS, *GOLD["text"]], "gold": ["good"] * 6})
    plain = kit.llm(df).parse(Mood, "Read: {text}")
    shown = kit.llm(df).parse(Mood, "Read: {text}", examples=kit.frame(GOLD))

    found = kit.llm(shown).compare(plain, against="gold", field="mood").labelled

    assert (found.labels, found.examples) == (3, 3)
    assert "Left out since a side was shown them as examples: 3 labelled rows." in found.lines()


def test_all_labelled_rows_as_examples_leave_nothing_to_evaluate(kit: FrameKit) -> None:
    df = kit.frame(GOLD | {"gold": GOLD["mood"]})
    out = kit.llm(kit.drop(df, "mood")).parse(Mood, "Read: {text}", examples=df)

    with pytest.raises(UsageError, match="3 labelled rows were shown to the model as an example, or nearly so"):
        kit.llm(out).evaluate(against="gold", field="mood")


def test_stored_labels_are_examples_by_their_role_alone(kit: FrameKit) -> None:
    rng = random.Random(5)
    words = ["soup", "waiter", "rain", "music", "price", "chair", "wine", "door", "night", "salt", "bread", "lamp"]
    texts = kit.frame({"text": [" ".join(rng.sample(words, 6)) for _ in range(40)]})
    df = kit.put(texts, "gold", ["good", "bad"] * 20)
    kit.llm(df).label(against="gold", field="mood", columns=["text"])
    rows = kit.column(texts, "text")
    roles = dict(zip(rows, roles_of(rows), strict=True))

    out = kit.llm(texts).parse(Mood, "{text}", examples="labels")

    examples = {text for request in SEEN for role, text in request.messages[:-1] if role == "user"}
    assert {roles[text] for text in examples} == {"examples"}
    measured = kit.llm(out).evaluate(against="labels", field="mood")
    assert measured.examples == len(examples)
    assert measured.answered == 40 - len(examples)
    assert kit.values(kit.llm(kit.llm(texts).parse(Mood, "{text}", examples="labels")).status) == ["cached"] * 40


def test_near_duplicates_have_one_role_and_roles_have_their_shares() -> None:
    texts = with_copies(7)["text"]

    groups, roles = near_duplicate_groups(texts), roles_of(texts)

    pairs = [(one, other) for one in range(len(texts)) for other in range(one)]
    for one, other in pairs:
        if near(texts[one], texts[other]):
            assert groups[one] == groups[other]
            assert roles[one] == roles[other]
    assert any(near(texts[one], texts[other]) for one, other in pairs)
    many = roles_of([f"{number:x} {number * 7919:x} {number * 104729:x}" for number in range(1, 1500)])
    assert abs(many.count("examples") / len(many) - 0.4) < 0.06


def test_the_registry_keeps_no_text_of_examples(kit: FrameKit, cache_dir: Path) -> None:
    out = kit.llm(kit.frame({"text": TEXTS})).parse(Mood, "{text}", examples=[("A secret evening", {"mood": "good"})])
    run_id = kit.llm(out).run.id
    run_registry.forget_all()

    assert pllm.run(run_id).header["examples"]["of"] == 1
    assert not any(
        b"A secret evening" in path.read_bytes()
        for path in cache_dir.rglob("*")
        if "runs" in str(path) and path.is_file()
    )


def learner(request: SimRequest) -> Any:
    """Answer rightly with examples, and "good" without."""
    SEEN.append(request)
    knows = len(request.messages) > 1
    return {"mood": "bad" if knows and "rain" in request.prompt else "good", "note": "x"}


@pytest.mark.sample(3)
@pytest.mark.parametrize("source", ["frame", "labels"])
def test_the_gain_of_examples_is_measured_on_rows_that_were_not_shown(kit: FrameKit, source: str) -> None:
    pllm.configure(sim={"answers": learner})
    rng = random.Random(3)
    words = ["soup", "waiter", "music", "price", "chair", "wine", "door", "night", "salt", "bread", "lamp", "fork"]
    texts = [" ".join([*rng.sample(words, 6), "rain" if row % 2 else "sun"]) for row in range(60)]
    df = kit.frame({"text": texts, "gold": ["bad" if row % 2 else "good" for row in range(60)]})
    roles = kit.values(pllm.example_roles(df, ["text"]))
    examples: Any = kit.rename(kit.take(df, [row for row in range(60) if roles[row] == "examples"]), "gold", "mood")
    against: Any = "gold"
    if source == "labels":
        kit.llm(df).label(against="gold", field="mood", columns=["text"])
        examples = against = "labels"

    found = pllm.compare(
        {"without": {"prompt": "{text}"}, "with": {"prompt": "{text}", "examples": examples}},
        on=df,
        response_format=Mood,
        against=against,
        field="mood",
    )

    gain = found.labelled  # type: ignore[union-attr]
    shown = {text for request in SEEN for role, text in request.messages[:-1] if role == "user"}
    assert shown == {texts[row] for row in range(60) if roles[row] == "examples"}
    assert (gain.examples, gain.labels) == (len(shown), 60 - len(shown))
    held_out = [row % 2 for row in range(60) if roles[row] != "examples"]
    assert gain.difference == pytest.approx(np.mean(held_out))
    assert 0 < gain.low < gain.difference < gain.high


def test_shared_examples_are_what_the_providers_prompt_cache_keeps(kit: FrameKit) -> None:
    long = [(f"example {number} " + "word " * 400, "yes") for number in range(20)]
    df = kit.frame({"text": ["one text", "another text", "third"]})

    def body(model: str, name: str) -> dict[str, Any]:
        lines = kit.llm(df).request_lines(None, "Rate: {text}", examples=long, max_example_tokens=20_000, model=model)
        made: dict[str, Any] = orjson.loads(lines[0])[name]
        return made

    said = body("sim:anthropic", "params")["messages"]
    marked = [at for at, turn in enumerate(said) if "cache_control" in str(turn)]
    assert (marked, said[-2]["role"]) == ([len(said) - 2], "assistant")
    assert body("sim:openai", "body")["prompt_cache_key"].startswith("pllm-")

"""Packs, composed and taken apart: an answer belongs to its item, or to nobody."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.execution.packing.pack_reply import divide_usage, row_replies, row_text, split_reply
from pllm_notebook.prompts import ITEMS, packed
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import OutputType
from pllm_notebook.schema import packed as packed_type
from pllm_notebook.settings import resolve
from pllm_notebook.sim import packed_requests as simulated
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish, Reply, Usage


def reply(*entries: str) -> str:
    return '{"answers": [' + ", ".join(entries) + "]}"


def entry(index: Any, answer: str) -> str:
    return f'{{"index": {index}, "answer": {answer}}}'


def whole(usage: Usage | None = None, cost_usd: float | None = None) -> StoredReply:
    made = Reply(reply(), Finish.COMPLETE, usage, "m")
    return StoredReply.of(
        made, b"raw", asked="p:m", output_limit=300, cost_usd=cost_usd, latency_s=0.5, attempts=2, created_at=1.0
    )


def test_the_shared_instruction_comes_first_and_once_and_the_items_last() -> None:
    items = [b'{"text":"a"}', b'"b"']

    text = packed("Read {text}", items)

    before, _, after = text.rpartition(ITEMS)
    assert before.endswith("\nRead {text}")
    assert text.count("Read {text}") == 1
    assert orjson.loads(after) == [{"index": 0, "item": {"text": "a"}}, {"index": 1, "item": "b"}]


def test_packs_of_any_length_begin_alike() -> None:
    short, long = packed("Read", [b"1"]), packed("Read", [b"2", b"3"])

    assert short.partition(ITEMS)[0] == long.partition(ITEMS)[0]


def test_a_cell_with_the_words_before_the_items_is_only_data() -> None:
    text = packed("Read", [orjson.dumps(f"a{ITEMS}[]")])

    assert orjson.loads(text.rpartition(ITEMS)[2]) == [{"index": 0, "item": f"a{ITEMS}[]"}]


def test_answers_go_by_index_whatever_their_order() -> None:
    text = reply(entry(1, '"b"'), entry(0, '"a"'))

    assert split_reply(text, Finish.COMPLETE, 2) == ({0: '"a"', 1: '"b"'}, True)


@pytest.mark.parametrize("written", ["1.10", "123456789012345678901234567890", '{"a" : [ 1 ]}', '"\\u00e9"', "NaN"])
def test_an_answer_is_cut_out_as_it_was_written(written: str) -> None:
    assert split_reply(reply(entry(0, written)), Finish.COMPLETE, 1).answers == {0: written}


@pytest.mark.parametrize(
    "odd",
    [
        entry(0, '"again"'),
        entry(7, '"c"'),
        entry(-1, '"c"'),
        entry('"1"', '"c"'),
        entry("true", '"c"'),
        entry("1.0", '"c"'),
        '{"answer": "c"}',
        '{"index": 1}',
        '"c"',
        "[]",
    ],
)
def test_an_entry_that_is_not_plainly_an_items_is_nobodys(odd: str) -> None:
    found = split_reply(reply(entry(0, '"a"'), odd, entry(2, '"d"')), Finish.COMPLETE, 3).answers

    assert found == ({2: '"d"'} if odd.startswith('{"index": 0') else {0: '"a"', 2: '"d"'})


@pytest.mark.parametrize("end", ['{"index": 1, "answer": 12', '{"index": 1, "answer": "b"', '{"index": 1', "{", ""])
def test_of_a_cut_off_reply_the_entries_that_came_whole_count(end: str) -> None:
    text = '{"answers": [' + entry(0, '"a"') + ", " + end

    assert split_reply(text, Finish.TRUNCATED, 3).answers == {0: '"a"'}


@pytest.mark.parametrize("text", ["", "Sure, here", '{"answers": ', '{"answers": "none"', "[1, 2"])
def test_a_cut_off_reply_without_entries_has_none(text: str) -> None:
    assert split_reply(text, Finish.TRUNCATED, 3).answers == {}


@pytest.mark.parametrize("finish", [Finish.REFUSED, Finish.FILTERED])
def test_a_refused_or_filtered_reply_answers_nobody(finish: Finish) -> None:
    assert split_reply(reply(entry(0, "1")), finish, 1).answers == {}


@pytest.mark.parametrize("text", ["", "no", "12", '{"answers": [', '{"answers": 3}', '{"other": []}', reply() + "x"])
def test_a_reply_that_is_not_the_json_asked_for_answers_nobody(text: str) -> None:
    found = split_reply(text, Finish.COMPLETE, 1)

    assert found == ({}, False)


@pytest.mark.parametrize("text", ["Sure:\n```json\n{}\n```\nAnything else?", "<think>[1]</think>{}", "{} "])
def test_json_is_found_in_prose(text: str) -> None:
    wanted = reply(entry(0, "1"))

    found = split_reply(text.replace("{}", wanted), Finish.COMPLETE, 1)

    assert found == ({0: "1"}, text == "{} ")


def test_a_bare_list_will_do() -> None:
    assert split_reply(f"[{entry(0, '1')}]", Finish.COMPLETE, 1).answers == {0: "1"}


def test_fields_that_nobody_asked_for_are_passed_over() -> None:
    text = '{"note": {"answers": []}, "answers": [{"index": 0, "why": [1], "answer": 2}], "more": 1}'

    assert split_reply(text, Finish.COMPLETE, 1).answers == {0: "2"}


def test_brackets_without_end_take_no_stack() -> None:
    assert split_reply("[" * 100_000, Finish.COMPLETE, 1).answers == {}
    assert split_reply('{"answers": ' + "[" * 100_000, Finish.TRUNCATED, 1).answers == {}


def test_an_answer_becomes_what_a_call_of_its_own_would_have_held() -> None:
    assert row_text('{"a": 1}', structured=True, wrapped=False) == b'{"a": 1}'
    assert row_text("true", structured=True, wrapped=True) == b'{"value":true}'
    assert row_text('"a \\u00e9"', structured=False, wrapped=False) == "a é".encode()
    assert row_text("3", structured=False, wrapped=False) is None


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_shares_add_up_to_the_whole(count: int) -> None:
    metadata = whole(Usage(101, 23, 100, 5, 4), 0.007).metadata

    parts = divide_usage(metadata, count)

    assert [sum(column) for column in zip(*(part["usage"] for part in parts), strict=True)] == [101, 23, 100, 5, 4]
    assert sum(part["cost_usd"] for part in parts) == pytest.approx(0.007, rel=1e-12)


@pytest.mark.parametrize("read", range(23))
def test_no_share_has_more_cached_tokens_than_tokens(read: int) -> None:
    parts = divide_usage(whole(Usage(22, 1, read)).metadata, 7)

    assert all(part["usage"][2] <= part["usage"][0] for part in parts)


def test_what_is_unknown_of_the_whole_is_unknown_of_a_share() -> None:
    (one, _) = divide_usage(whole().metadata, 2)

    assert (one["usage"], one["cost_usd"]) == (None, None)


def test_the_rows_that_have_an_answer_bear_the_call_between_them() -> None:
    metadata = whole(Usage(100, 11), 0.3)

    made = row_replies(metadata, {0: b"a", 2: b"c"}, pack=3, pack_id="id", output_limit=50, raw=b"")

    assert list(made) == [0, 2]
    assert [one.usage for one in made.values()] == [Usage(50, 6), Usage(50, 5)]
    assert [one.output_tokens for one in made.values()] == [6, 5]
    for one in made.values():
        assert (one.finish, one.output_limit, one.raw) == (Finish.COMPLETE, 50, b"")
        assert {name: one.metadata[name] for name in ("pack", "pack_id", "attempts", "latency_s", "cost_usd")} == {
            "pack": 3,
            "pack_id": "id",
            "attempts": 2,
            "latency_s": 0.5,
            "cost_usd": 0.15,
        }


@pytest.mark.parametrize("kind", [None, bool, list[int], dict[str, int]], ids=str)
def test_a_packs_reply_is_a_list_of_the_rows_own_type(kind: Any) -> None:
    output = None if kind is None else OutputType.of(kind)

    schema = packed_type(output).fit(OPENAI).schema

    made = schema["$defs"]["Entry"]["properties"]
    own = {"type": "string"} if output is None else output.fit(OPENAI).schema["properties"]["value"]
    assert list(schema["properties"]) == ["answers"]
    assert made == {"index": {"type": "integer"}, "answer": own}


@pytest.mark.parametrize("pack", [0, -1, 2.5, True, "x"])
def test_a_pack_is_a_whole_number_of_rows(pack: Any) -> None:
    with pytest.raises(UsageError, match=f"pack is a whole number of at least 1, not {pack!r}. Nothing was sent."):
        resolve({"pack": pack})


def test_a_pack_of_one_row_is_no_pack() -> None:
    assert [
        build_spec(options_for({"model": "sim:openai", "pack": k}), None, instruct=False).pack for k in (None, 1)
    ] == [
        None,
        None,
    ]


def test_the_simulator_knows_where_the_items_of_a_pack_begin() -> None:
    assert simulated.ITEMS == ITEMS

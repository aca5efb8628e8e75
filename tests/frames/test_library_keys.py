"""The same row is the same call, whichever library holds it: texts, labelled data, keys and hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import polars as pl
import pytest

import pllm_notebook as pllm
from pllm_notebook.frames.hashing import cell_hashes
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.siphash import sip_hashes

from .golden_values import KEYS, TEXTS, TYPES, frames

GAP = "p1-iA17YK9vPQejlvERg_locRDErfNBeV9PHhAS2iWTQXY"  # of {"t":null,"n":2}


def beside(frame: Any) -> Any:
    """Return a frame with a column `n` of 1 and 2 beside its own."""
    if isinstance(frame, pd.DataFrame):
        return frame.assign(n=[1, 2])
    return (
        frame.with_columns(n=pl.Series([1, 2]))
        if isinstance(frame, pl.DataFrame)
        else frame.append_column("n", [[1, 2]])
    )


@pytest.mark.parametrize("name", TYPES)
def test_the_same_row_has_the_same_text_in_every_library(cache_dir: Path, name: str) -> None:
    prompts = {}
    for library, frame in frames(name).items():
        table = table_of(frame)
        assert table is not None
        cells = table.column_data(["t"])
        prompts[library] = (pllm.frame(frame).request_lines(bool, "{t}", rows=5, model="sim:openai"), cells.missing[0])

    gaps = [False, name != "uint8"]
    texts = {library: repr(lines) for library, (lines, _) in prompts.items()}

    assert set(texts.values()) == {texts["pandas"]}
    assert TEXTS[name].replace('"', '\\"') in texts["pandas"] or TEXTS[name] in texts["pandas"]
    assert all(list(missing) == gaps for _, missing in prompts.values())


@pytest.mark.parametrize("name", TYPES)
def test_the_same_row_has_the_same_labelled_data_in_every_library(cache_dir: Path, name: str) -> None:
    texts = {
        library: repr(pllm.frame(frame).request_lines(bool, rows=5, model="sim:openai"))
        for library, frame in frames(name).items()
    }

    assert set(texts.values()) == {texts["pandas"]}


def ids_of(frame: Any, prompt: str | None) -> tuple[str, ...]:
    lines = pllm.frame(frame).request_lines(bool, prompt, rows=5, model="openai:gpt-6-luna").lines
    return tuple(orjson.loads(line)["custom_id"] for line in lines)


@pytest.mark.parametrize("name", TYPES)
def test_golden_keys_do_not_move_in_any_library(cache_dir: Path, name: str) -> None:
    for library, frame in frames(name).items():
        template, labelled = ids_of(frame, "{t}"), ids_of(frame, None)

        assert (template[0], labelled[0]) == KEYS[name], library
        assert len(template) == len(labelled) == (2 if name == "uint8" else 1), library  # the second row is a gap


def test_a_gap_beside_a_value_has_one_key_whatever_the_type_of_its_column(cache_dir: Path) -> None:
    found = set()
    for name in TYPES.keys() - {"uint8"}:
        for frame in frames(name).values():
            found.add(ids_of(beside(frame), None)[1])

    assert found == {GAP}


@pytest.mark.parametrize("name", TYPES)
def test_the_same_cell_has_the_same_hash_in_every_library(name: str) -> None:
    hashes = {}
    for library, frame in frames(name).items():
        table = table_of(frame)
        assert table is not None
        hashes[library] = table.hashes("t").tolist()

    assert {str(own) for own in hashes.values()} == {str(hashes["polars"])}


def test_texts_hash_as_pandas_hashes_them() -> None:
    texts = [
        "",
        "a",
        "1234567",
        "12345678",
        "ä€𝄞\0",
        "x" * 1000,
        *(f"row {n}" * (n % 7) for n in range(300)),
        "y" * 5000,
    ]

    assert sip_hashes([text.encode() for text in texts]).tolist() == cell_hashes(texts, [False] * len(texts)).tolist()
    assert sip_hashes([]).tolist() == []

"""Result columns of pandas: objects where a dtype cannot hold a value, nested values that hash, and the index."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.pandas.columns import array_of
from pllm_notebook.sim import SimRequest
from tests.zoo import ZOO, ZooCase


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("x", Kind.CATEGORY, ("a", "b")), ["a", "C", None]),
        (Column("x", Kind.INTEGER), [1, 2**70, None]),
        (Column("x", Kind.INTEGER), [1, "one", None]),
        (Column("x", Kind.TEXT), ["a", 1, None]),
        (Column("x", Kind.BOOLEAN), [True, "yes", None]),
        (Column("x", Kind.DATETIME), ["not a day", None]),
        (Column("x", Kind.DURATION), ["soon", None]),
    ],
)
def test_a_column_never_makes_a_value_na(column: Column, values: list[Any]) -> None:
    with pytest.warns(UserWarning, match="Column 'x' holds objects") as shown:
        array = array_of(column, values)

    assert list(array) == values
    assert "C long" not in str(shown[0].message)


def test_nan_is_a_gap_in_a_column_of_numbers_and_a_gap_of_data_is_none() -> None:
    assert array_of(Column("x", Kind.REAL), [1.0, float("nan"), None]).isna().tolist() == [False, True, True]
    assert array_of(Column("x", Kind.DATA), [np.nan, None])[1] is None


class Package(BaseModel):
    name: str
    version: int | None = None


class Found(BaseModel):
    name: str
    package: Package
    packages: list[Package] = []


FOUND = {
    "name": "n",
    "package": {"name": "p", "version": 1},
    "packages": [{"name": "a", "version": 1}, {"name": "b", "version": None}],
}


def test_equal_nested_answers_are_duplicates(cache_dir: object) -> None:
    given = [FOUND, FOUND, {**FOUND, "name": "other"}]
    pllm.configure(sim={"answers": lambda request: given[int(request.prompt)]}, model="sim:openai")

    out = pd.DataFrame({"n": [0, 1, 2]}).llm.parse(Found, "{n}").drop(columns="n")

    assert len(out.drop_duplicates()) == 2
    assert out.groupby("package").size().tolist() == [3]
    assert pd.json_normalize(out["package"].tolist()).columns.tolist() == ["name", "version"]


def test_exploded_rows_repeat_their_index(cache_dir: object) -> None:
    given = [FOUND, {**FOUND, "packages": []}]
    pllm.configure(sim={"answers": lambda request: given[int(request.prompt)]}, model="sim:openai")

    out = pd.DataFrame({"n": [0, 1]}, index=["r0", "r1"]).llm.parse(Found, "{n}", explode="packages", flatten=True)

    assert out.index.tolist() == ["r0", "r0", "r1"]


# One type, one shape: what a column of Arrow can hold. Of the others each row may be another, so JSON text is for them.
_SHAPELESS = {
    "mixed_literal", "dict", "dict_keys", "tuples", "knot", "tagged_union", "union", "unclear_union", "dict_tree",
    "root_dict", "tuple", "dict_of_lists", "union_of_models", "many_unions",
}  # fmt: skip


@pytest.mark.sample(12)
@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.id)
@pytest.mark.parametrize("nested", ["data", "json"])
@settings(max_examples=3, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_every_type_goes_on(cache_dir: object, case: ZooCase, nested: str, rows: list[int]) -> None:
    frame = pd.DataFrame({"n": rows})
    for model in ("sim:openai", "sim:anthropic", "sim:google"):
        try:
            out = frame.llm.parse(case.kind, "{n}", nested=nested, model=model, progress=False)
            break
        except UnsupportedSchemaError:
            continue
    else:
        return  # no provider can be asked for it

    out.to_json(date_format="iso")
    out.drop_duplicates()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(out)), out)
    if nested == "json" or case.id not in _SHAPELESS:
        file = io.BytesIO()
        out.to_parquet(file)
        back = pd.read_parquet(io.BytesIO(file.getvalue()))
        if int(pa.__version__.partition(".")[0]) < 19:  # pandas restores "string" as "str" there
            back = back.astype(out.dtypes)
        pd.testing.assert_frame_equal(back, out)


def test_a_series_has_the_index_of_its_rows_and_the_id_of_its_run(cache_dir: object) -> None:
    def said(request: SimRequest) -> Any:
        return {"value": True} if request.schema else request.prompt.upper()

    pllm.configure(sim={"answers": said}, model="sim:openai")
    df = pd.DataFrame({"text": ["a", "b", None]}, index=[7, 3, 5])

    df["fr"] = df["text"].llm.complete("Translate {value}")
    flags = df["text"].llm.parse(bool, "{value}?", column="flag", prefix="is_")

    assert df["fr"].fillna("-").tolist() == ["TRANSLATE A", "TRANSLATE B", "-"]
    assert (flags.name, str(flags.dtype), flags.index.tolist()) == ("is_flag", "boolean", [7, 3, 5])
    assert list(flags.attrs) == ["pllm_run"]
    assert flags.llm.run is pllm.runs()[-1]

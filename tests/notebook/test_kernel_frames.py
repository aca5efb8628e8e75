"""`%%pllm` with frames other than pandas', in a real kernel: Polars, Arrow, and what streams Arrow data."""

from __future__ import annotations

import pytest

from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

FRAMES = """
import duckdb, polars as pl, pyarrow as pa
people = pl.DataFrame({"text": ["first person", "second person", None]})
places = pa.table({"text": ["first place", "second place"]})
things = duckdb.sql("select 'thing ' || range as text from range(3)")
"""


def test_a_frame_of_any_library_is_asked_bound_shown_and_completed(kernel: Kernel) -> None:
    kernel.ok(FRAMES)
    columns = ["text", "product", "sentiment", "score"]

    polars, arrow, duckdb = (
        kernel.ok(f"%%pllm {name} --schema Review --out {name}_out\nRead: {{text}}")
        for name in ("people", "places", "things")
    )

    for cell, answered in ((polars, "2 of 3 rows"), (arrow, "2 rows"), (duckdb, "3 rows")):
        (line,) = filter(None, cell.texts)
        assert line.startswith(f"✓ Review: {answered} answered")
    kinds = "[type(out).__module__.split('.')[0] for out in (people_out, places_out, things_out)]"
    assert kernel.value(kinds) == ["polars", "pyarrow", "pyarrow"]
    assert kernel.value("[people_out.columns, places_out.column_names, things_out.column_names]") == [columns] * 3
    assert kernel.value("people_out.llm.status.to_list()") == ["ok", "ok", "skipped"]
    assert kernel.value("pllm.frame(things_out).status.to_pylist()") == ["ok"] * 3

    shown = [kernel.ok(f"%%pllm {name} --column said\nSay {{text}}") for name in ("people", "places", "things")]

    for cell, first in zip(shown, ("first person", "first place", "thing 0"), strict=True):
        data = cell.outputs[-1]["data"]
        assert "said" in data["text/plain"], data
        assert first in data["text/plain"], data
    assert "<table" in shown[0].outputs[-1]["data"]["text/html"]

    code = "%%pllm "
    offered = kernel.ask("shell", "complete_request", {"code": code, "cursor_pos": len(code)})["matches"]
    assert {"df", "people", "places", "things"} <= set(offered)
    assert not {"pl", "pa", "duckdb", "Review"} & set(offered)


def test_a_lazy_frame_says_what_a_cell_can_ask(kernel: Kernel) -> None:
    kernel.ok("import polars as pl\nlazy = pl.DataFrame({'text': ['a']}).lazy()")

    error = kernel.run("%%pllm lazy --schema Review --out answers\n{text}").error

    assert "in a cell %%pllm lf.collect()" in error
    assert error.endswith("Nothing was sent.")

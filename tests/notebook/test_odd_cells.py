"""A `%%pllm` cell that cannot be carried out as written: one line that says why, nothing sent, nothing lost."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.notebook.cell_magic import run_cell
from pllm_notebook.notebook.line_magic import run_command
from pllm_notebook.notebook.tab_completion import _match
from pllm_notebook.sim import Simulator


def broken(answer: int = 1) -> Any:
    raise RuntimeError("first line\nsecond line")


def lacking() -> Any:
    return undefined_elsewhere  # type: ignore[name-defined]  # noqa: F821


def notebook() -> dict[str, Any]:
    """The variables of a notebook."""
    df = pd.DataFrame({"text": ["a", "b"]})
    return {"df": df, "pd": pd, "mathematics": math, "Mapping": dict, "broken": broken, "lacking": lacking, "one": 1}


@pytest.fixture
def ready(cache_dir: Path, sim: Simulator) -> Simulator:
    pllm.configure(servers={"mine": sim.base_url("compatible")}, model="mine:m")
    return sim


def run(line: str, body: str = "Read {text}", names: dict[str, Any] | None = None) -> Any:
    return asyncio.run(run_cell(line, body, notebook() if names is None else names, blocking=True))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        # Options.
        ("df --schema bool --schema int", "--schema is given twice on the line of %%pllm. Keep one of them."),
        ("df --schema bool --response-format int", "--schema and --response-format are one option, given twice"),
        ("df --progress --no-progress", "--progress and --no-progress are one option, given twice"),
        ("df --evidence --evidence=retry", "--evidence is given twice"),
        ("df --confirm=no", "--confirm is a switch, and 'no' is no value of it: write --confirm or --no-confirm."),
        ("df --no-progress=bar", "--no-progress is a switch, and 'bar' is no value of it"),
        ("df --explode=", "--explode is a switch, and '' is no value of it: write --explode or --no-explode."),
        ("df --explode=lines --schema bool", "explode='lines' is not a field"),
        ("df -schema bool", "There is no option '-schema'. Did you mean '--schema'?"),
        ("df \N{EM DASH}schema bool", "There is no option '\N{EM DASH}schema'. Did you mean '--schema'?"),
        ("\N{EN DASH}\N{EN DASH}schema bool", "Did you mean '--schema'?"),
        ("df --system -x", "expected one argument. Join a value that begins with a dash to its option: --system='-x'."),
        ("df --system \N{LEFT DOUBLE QUOTATION MARK}Be brief.\N{RIGHT DOUBLE QUOTATION MARK}", "Typographic quotes"),
        ("df --schema bool \\", "The line cannot be continued on another one: put all options on it."),
        ("df --samples 0", "samples is a whole number of at least 1, not 0."),
        ("df --max-cost-usd nan", "max_cost_usd is "),
        ("df --extra-body {[]:1}", "--extra-body is a mapping such as {'seed': 1}, not '{[]:1}'."),
        ("df --extra-body 3", "extra_body is a mapping of fields for the provider, not 3."),
        ("df --prices cheap", "--prices is a mapping such as {'mine:large': (0.50, 2.00)}, not 'cheap'."),
        ("df --examples one", "examples is a frame, a list of rows or of pairs, or \"labels\", not 1."),
        ("df --columns text", "columns= cannot be combined with a prompt"),
        # The variable of the result.
        ("df --out class", "--out is the name of a variable, and 'class' is a keyword of Python"),
        ("df --out None", "'None' is a keyword of Python"),
        ("df --out a.b", "--out is the name of a variable, not 'a.b'."),
        ("df --out ''", "--out is the name of a variable, not ''."),
        ("df --out pd", "--out pd would replace the module 'pd' in this notebook. Choose another name."),
        ("df --out Mapping", "--out Mapping would replace the class 'Mapping'"),
        ("df --out broken", "--out broken would replace the function 'broken'"),
        ("df --out print", "--out print would replace the function 'print'"),
        ("df --out In", "--out In would replace the name of IPython's 'In'"),
        # Expressions.
        ("dff", "%%pllm: there is no variable 'dff' in this notebook. Did you mean 'df'?"),
        ("exut", "%%pllm: there is no variable 'exut' in this notebook. Nothing was sent."),
        ("lacking()", "'lacking()' cannot be evaluated: NameError: name 'undefined_elsewhere' is not defined."),
        ("broken()", "'broken()' cannot be evaluated: RuntimeError: first line second line."),
        ("df['nothing']", "cannot be evaluated: KeyError: 'nothing'."),
        ("'df +'", "'df +' cannot be evaluated: SyntaxError: invalid syntax"),
        ("''", "%%pllm: an expression of the notebook is expected, and there is none."),
        ("df --schema ''", "--schema: an expression of the notebook is expected, and there is none."),
        ("df --schema df", "Got a DataFrame, which is not a type."),
        ("df --schema one", "1"),
        ("df --schema broken", "broken"),
        ("df --tools nothing", "--tools: there is no variable 'nothing' in this notebook."),
        ("df --tools one", "tool"),
        ("one", "one is an int; %%pllm takes a dataframe, a series or a list."),
        ("{'a':1}", "is a dict; %%pllm takes a dataframe, a series or a list."),
        ("{'a'}", "is a set; %%pllm takes a dataframe, a series or a list. list({'a'}) makes a list of it."),
        ("pd.DataFrame", "is a type; %%pllm takes a dataframe, a series or a list."),
        ("df --schema bool --column text", "text"),
        # What goes in and comes out of a list, or of a prompt alone, has no columns.
        ("['a'] --column summary", "column= is for frames, and the answers to a list are a list."),
        ("['a'] --schema list[int] --explode", "explode= is for frames, and the answers to a list are a list."),
        ("['a'] --prefix p_", "prefix= is for frames"),
        ("['a'] --schema bool --evidence", "evidence= is for frames"),
        ("--error-column why", "error_column= is for frames, and a prompt without data has one answer."),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_out_is_one_line_that_says_why(ready: Simulator, line: str, said: str) -> None:
    names = notebook()
    held = {name: id(value) for name, value in names.items()}

    with pytest.raises(pllm.PllmError) as caught:
        run(line, "Read {value}" if line.startswith("[") else "Read" if line.startswith("--") else "Read {text}", names)

    message = str(caught.value)
    assert said in message
    assert message.endswith("Nothing was sent.")
    assert "\n" not in message
    assert {name: id(value) for name, value in names.items()} == held
    assert ready.stats().requests == 0


@pytest.mark.parametrize("line", ["-h", "--help", "df -h"])
def test_help_is_shown_however_it_is_asked_for(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line) is None

    assert "--max-cost-usd X" in capsys.readouterr().out


def test_a_result_is_bound_to_the_name_as_python_reads_it(ready: Simulator) -> None:
    names = notebook()

    run("df --out \N{LATIN SMALL LIGATURE FI}ne --schema bool", names=names)

    assert list(names["fine"].columns) == ["text", "answer"]


def test_a_variable_takes_the_name_of_a_builtin_only_where_the_notebook_has_done_so(ready: Simulator) -> None:
    names = notebook() | {"id": 7}

    run("df --out id --schema bool", names=names)

    assert len(names["id"]) == 2


def test_examples_and_prices_are_expressions(ready: Simulator) -> None:
    names = notebook() | {"shown": [("x", True)]}

    run("df --examples shown --prices {'mine:m':(1,2)} --schema bool --max-cost-usd 1 --out out", names=names)

    assert names["out"]["answer"].notna().all()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("df --schema Review", "A cell that asks a model begins with %%pllm. Nothing was sent."),
        ("use", "%pllm use needs a model"),
        ("use ''", "%pllm use needs a model"),
        ("use sim:openai now", "without blanks, not 'sim:openai now'. Nothing was sent."),
        ("cost all", "%pllm cost takes no argument, not 'all'. Nothing was sent."),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        run_command(line)

    assert said in str(caught.value)


def test_a_model_may_be_in_quotes(cache_dir: Path) -> None:
    assert run_command('use "sim:openai"').lines[0] == ("model", "sim:openai (pllm.configure)")


class Proxy:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("not connected")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("not connected")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("%%pllm ", "df"), ("%%pllm  d", "df"), ("%%pllm df --schema=", "Mapping"), ("%%pllm df --cache=re", "refresh"),
        ("%%pllm df --model=sim:o", "sim:openai"), ("%%pllm df --evidence=r", "--evidence=retry"),
        ("%%pllm df --", "--schema"), ("%%pllm df --schema 'x", None), ("%%pllm df --nothing=", None),
        ("%pllm ", "use"), ("%pllm use ", "sim:openai"), ("%pllm cost ", None),
    ],
)  # fmt: skip
def test_a_half_typed_line_has_completions_whatever_the_notebook_holds(line: str, found: str | None) -> None:
    fragment, words = _match(line, notebook() | {"proxy": Proxy()})

    assert line.endswith(fragment)
    assert (found in words) if found else not list(words)

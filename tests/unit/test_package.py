"""The package as a whole: its names, what importing it costs, and its layers' contract."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook
from pllm_notebook.frames.pandas.adapter import FrameLLM, SeriesLLM
from tests.forked import run_forked

HEAVY = [
    "openai",
    "anthropic",
    "google.genai",
    "xllamacpp",
    "ipywidgets",
    "IPython",
    "diskcache",
    "genai_prices",
    "tqdm",
    "polars",
    "pydantic",
    "aiohttp",
    "asyncio",
    "ssl",
    "sqlite3",
    "orjson",
    "pllm_notebook.engine",
    "pllm_notebook.providers",
    "pllm_notebook.execution",
    "pllm_notebook.schema",
    "pllm_notebook.store",
]


def loaded_after(code: str) -> set[str]:
    """Return what code loads in a process that has imported pandas, and nothing of what this package needs beside."""
    told = (
        f"import sys, pandas\nbefore = set(sys.modules)\n{code}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules and name not in before])"
    )
    done = run_forked("-c", told, imported=["pandas"])
    assert done.returncode == 0, done.stderr
    return set(eval(done.stdout))


def test_importing_loads_hardly_more_than_pandas() -> None:
    assert loaded_after("import pllm_notebook") == set()


def run_python(code: str) -> None:
    """Run code in an interpreter of its own, which has imported nothing."""
    subprocess.run([sys.executable, "-c", f"import sys\n{code}"], check=True)


def test_importing_loads_no_dataframe_library() -> None:
    run_python("import pllm_notebook\nassert not {'numpy', 'pandas', 'polars', 'pyarrow'} & set(sys.modules)")


@pytest.mark.sample(2)
@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("first", [True, False])
def test_the_accessors_are_there_whichever_is_imported_first(library: str, first: bool) -> None:
    both = [f"import {library} as lib", "import pllm_notebook"]
    run_python(
        "\n".join(both if first else both[::-1])
        + "\nassert lib.DataFrame({'t': ['a']}).llm.estimate(bool, '{t}', model='sim:openai').rows == 1"
        + "\nassert lib.Series(['a']).llm.parse.__doc__"
    )


def test_a_module_that_is_waited_for_keeps_its_loader() -> None:
    run_python(
        "import pllm_notebook, importlib.util\n"
        "assert importlib.util.find_spec('polars') is not None and 'polars' not in sys.modules\n"
        "import polars, inspect\n"
        "assert type(polars.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "assert 'exec_module' not in vars(polars.__spec__.loader) and inspect.getsource(polars)"
    )


def test_who_uses_polars_loads_no_pandas() -> None:
    run_python("""
import tempfile
import polars as pl, pllm_notebook as pllm

pllm.configure(model="sim:openai", cache_dir=tempfile.mkdtemp(), progress=False)
frame = pl.DataFrame({"t": ["a", "b", None]})
out = frame.llm.parse(bool, "{t}", column="yes")
assert out.llm.status.to_list() == ["ok", "ok", "skipped"]
assert out.reverse().llm.errors.is_empty() and out.llm.usage.height == 3
assert pllm.runs().frame.height == 1 and pllm.errors().is_empty()
assert "pandas" not in sys.modules
""")


def test_setting_defaults_loads_no_more() -> None:
    assert loaded_after("import pllm_notebook\npllm_notebook.configure(model='openai:gpt-6-luna')") == set()


def test_the_accessors_are_there_before_what_they_need_is_loaded() -> None:
    code = "import pandas as pd, pllm_notebook\nassert pd.DataFrame.llm and pd.Series.llm"

    assert loaded_after(code) == set()


def test_the_accessors_of_the_classes_have_the_names_and_docs_of_their_own() -> None:
    assert pd.DataFrame.llm.parse.__doc__ == FrameLLM.parse.__doc__
    assert "parse" in dir(pd.Series.llm)
    assert type(pd.DataFrame().llm) is FrameLLM
    assert type(pd.Series([1]).llm) is SeriesLLM


def test_asking_one_provider_loads_no_other() -> None:
    code = (
        "import pandas as pd, pllm_notebook\n"
        "pd.DataFrame({'t': ['a']}).llm.estimate(bool, '{t}', model='anthropic:claude-haiku-5-5')"
    )

    assert loaded_after(code) & {"openai", "google.genai", "xllamacpp", "ipywidgets"} == set()


def test_an_sdk_is_loaded_beside_the_engines_loop_and_not_on_it() -> None:
    code = """
import sys, threading
import pandas as pd, pllm_notebook

class Watch:
    threads = []
    def find_spec(self, name, path=None, target=None):
        if name == "openai":
            self.threads.append(threading.current_thread().name)

sys.meta_path.insert(0, Watch())
pd.DataFrame({"t": ["a"]}).llm.parse(bool, "{t}?", model="sim:openai", cache="off", progress=False)
assert Watch.threads and "pllm-engine" not in Watch.threads, Watch.threads
"""

    assert "openai" in loaded_after(code)


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert pllm_notebook.__all__ == sorted(pllm_notebook.__all__)
    assert all(hasattr(pllm_notebook, name) for name in pllm_notebook.__all__)


def test_every_name_is_listed_before_its_module_is_loaded() -> None:
    code = "import pllm_notebook\nassert set(pllm_notebook.__all__) <= set(dir(pllm_notebook))"

    assert loaded_after(code) == set()


def test_a_name_that_is_not_ours_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'pllm_notebook' has no attribute 'parses'$"):
        _ = pllm_notebook.parses


def test_the_version_is_the_installed_one() -> None:
    assert pllm_notebook.__version__ == metadata.version("pllm_notebook")


def test_the_version_is_said_in_one_place_and_nowhere_else_differs() -> None:
    root = Path(__file__).parents[2]

    assert f"version: {pllm_notebook.__version__}\n" in (root / "CITATION.cff").read_text("utf-8")
    assert f"## [{pllm_notebook.__version__}]" in (root / "CHANGELOG.md").read_text("utf-8")
    assert "version =" not in (root / "pyproject.toml").read_text("utf-8").partition("[project.optional")[0]

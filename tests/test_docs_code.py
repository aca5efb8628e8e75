"""The code of README.md and of every page under docs/ runs as it stands, each page in a namespace of its own.

Keys and addresses in the environment lead to the simulator; nothing in the text is changed before it runs.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook import cli
from pllm_notebook.sim import Simulator
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, reach
from tests.pages import PAGES, ROOT, RUN, blocks, one_shell

WITH_CODE = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]
# What a block may be written in: run here, checked here for its form, or output.
LANGUAGES = {*RUN, "sh", "text"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that pages read, as in a clone; what they write stays in it."""
    for name in ("notebooks", "docs/images"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name)
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def run_page(page: Path) -> dict[str, Any]:
    """Run the blocks of *page* in order; return the names that they leave."""
    with one_shell() as shell, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        ran = 0
        for block in blocks(page):
            if block.language in RUN:
                result = shell.run_cell(block.text)
                assert result.success, f"{named(page)}:{block.line}: {result.error_in_exec or result.error_before_exec}"
                ran += 1
        # Counted by the plainest search, so that no fence that the pattern overlooks stays unrun.
        assert ran == len(re.findall(r"^[ \t>]*(?:```|~~~) *\{?i?py", page.read_text("utf-8"), re.MULTILINE))
        assert [str(warning.message) for warning in warned if issubclass(warning.category, UserWarning)] == []
        return dict(shell.user_ns)


@pytest.mark.parametrize("page", WITH_CODE, ids=named)
def test_the_code_of_a_page_runs_as_it_stands(
    page: Path, sim: Simulator, cache_dir: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in (OPENAI, ANTHROPIC, GOOGLE):
        reach(side, sim, monkeypatch)
    sim.set(batch_s=0)

    names = run_page(page)

    assert sim.stats().answered > 0 or "sim:" in page.read_text(encoding="utf-8")
    assert sim.stats().rejected == 0
    RESULTS.get(named(page), lambda names: None)(names)


def readme(names: dict[str, Any]) -> None:
    out = names["out"]
    assert out.llm.status.value_counts()[["ok", "cached"]].tolist() == [20, 10]
    assert [str(dtype) for dtype in out.dtypes][1:] == ["string", "Int64"]


def tools(names: dict[str, Any]) -> None:
    assert names["out"]["tool"].isin(["Ticket", "refund"]).all()
    for name in ("out", "sizes", "seen"):
        assert names[name].llm.status.eq("ok").all()


def batch(names: dict[str, Any]) -> None:
    assert names["out"].llm.status.isin(["ok", "cached"]).all()


def frames(names: dict[str, Any]) -> None:
    assert names["out"].llm.status.eq("ok").all()
    assert names["df"]["french"].str.contains("SIMULATED").all()


def prompt_lists(names: dict[str, Any]) -> None:
    assert [output.error for output in names["outputs"]] == [None] * 3


def request_files(names: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "request_files.md").read_text(encoding="utf-8")
    assert re.search(r"print\(status\) +# (.*) …", text)[1] in str(names["status"])  # type: ignore[index]


# What the code of a page has to leave behind.
RESULTS = {
    "README.md": readme,
    "docs/batch.md": batch,
    "docs/frames.md": frames,
    "docs/prompt_lists.md": prompt_lists,
    "docs/request_files.md": request_files,
    "docs/tools.md": tools,
}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is_written_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert text.count("```") == 2 * len(blocks(page))
    assert "~~~" not in text
    # An indented block is code too, and nobody would run it.
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?:\A|\n\n)(?: {4}|\t)\S.*", prose) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page):
        if block.language == "sh":
            for line in block.text.splitlines():
                check_command(shlex.split(line, comments=True))
    if page.name != "CHANGELOG.md":  # what it says of an earlier version may be gone
        for mention in re.findall(r"`((?:make|pllm|pip install|python) [^`…]+)`", page.read_text(encoding="utf-8")):
            check_command(shlex.split(mention), mention=True)


def check_command(words: list[str], mention: bool = False) -> None:
    """Check the form of one command of a shell, and that what it names is there.

    Args:
        words: The command, an empty list for a line without one.
        mention: Whether it stands in a sentence, where arguments may be left out.
    """
    match words:
        case ["make", target, *_]:
            assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), words
        case [] | ["jupyter", "lab"]:  # which the package does not bring
            pass
        case ["pllm", *rest] if mention:
            names = [word for word in rest if word.islower() and word.isalpha()]
            with pytest.raises(SystemExit, match=r"^0$"):
                cli.main([*names, "--help"])
        case ["pllm", *rest]:
            cli._parser().parse_args(rest)
        case ["pip", "install", *_, package]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
            assert set(re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", package)))) <= set(extras), words
        case ["python", "-m", module, *_]:
            at = ROOT.joinpath(*module.split("."))
            assert at.with_suffix(".py").exists() or (at / "__main__.py").exists(), words
        case ["python", script, *_]:
            assert (ROOT / script).exists(), words
        case _:
            raise AssertionError(f"No check for {words}.")

"""What rows and models say is shown as text, and does nothing to the page or the terminal that shows it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbconvert.filters import markdown2html

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, RowError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.frames.evaluation import Evaluation
from pllm_notebook.frames.libraries import default_library
from pllm_notebook.frames.preview import Preview
from pllm_notebook.notebook.cell_magic import Text
from pllm_notebook.notebook.line_magic import Overview
from pllm_notebook.notebook.saved_rows import saved_rows
from pllm_notebook.notebook.terminal import TerminalSink
from pllm_notebook.notebook.text import line_bundle
from pllm_notebook.notebook.view_page import ended_page, running_words
from pllm_notebook.sim import SimAnswer, Simulator
from pllm_notebook.store.cache_api import CacheCheck, CacheInfo
from tests.contract.parrot import Parrot
from tests.notebook.hostile import ANSI, HOSTILE, MARKDOWN, Page
from tests.notebook.kernels import Kernel, specs_in
from tests.notebook.progress import at
from tests.secrets_seen import CANARY

PLAIN = {"table", "thead", "tbody", "tr", "th", "td", "pre", "p", "div", "span", "em", "style"}


def frame(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"text": [*texts], "label": [HOSTILE, "b"][: len(texts)]})


@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_what_rows_and_models_say_is_escaped_wherever_it_is_shown(sim: Simulator, cache_dir: Path) -> None:
    says = {"refuse": SimAnswer.refusal(HOSTILE), "break": SimAnswer.status(400, body={"error": {"message": HOSTILE}})}
    sim.set(answers=lambda request: says.get(request.prompt, HOSTILE))
    pllm.configure(servers={"<b>": sim.base_url("compatible")}, model=f"<b>:{HOSTILE}")

    out = frame(HOSTILE, "b").llm.complete("{text}", error_column="why")
    bad = frame("refuse", "break").llm.complete("{text}", error_column="why")
    shown = [out._repr_html_(), bad._repr_html_(), bad.llm.errors._repr_html_(), out.llm.usage._repr_html_()]
    shown += [out.llm.explain(0)._repr_html_(), bad.llm.explain(0)._repr_html_(), bad.llm.explain(1)._repr_html_()]
    shown += [frame(HOSTILE).llm.estimate(str, "{text}")._repr_html_()]
    shown += [frame(HOSTILE).llm.preview(str, "{text}")._repr_html_()]
    shown += [out.llm.evaluate(against="label")._repr_html_(), pllm.cache.info()._repr_html_()]
    shown += [Overview(((HOSTILE, HOSTILE),))._repr_html_()]

    for page in map(Page, shown):
        assert page.tags <= PLAIN | {"details", "summary"}
        assert page.attributes <= {"style", "class", "border", "scope", "scoped"}
    assert HOSTILE in Page(shown[4]).text


def test_a_running_display_escapes_names_and_notes() -> None:
    odd = at(label=HOSTILE, model=HOSTILE, note=HOSTILE, failed=1, cached=1)

    for drawn in (
        running_words(odd, 0.0)["text/html"],
        line_bundle(HOSTILE, muted=HOSTILE)["text/html"],
    ):
        assert Page(drawn).tags <= PLAIN
        assert Page(drawn).attributes <= {"style"}


def test_the_page_of_an_ended_run_escapes_names_messages_categories_and_rows() -> None:
    bar = {"label": HOSTILE, "count": 3}
    chart = {"name": HOSTILE, "kind": "categories", "of": HOSTILE, "counted": 3, "missing": 1, "bars": [bar], "more": 1}
    group = {"kind": HOSTILE, "count": 1, "message": HOSTILE, "can_retry": True, "can_pass": True, "price_usd": 1.0}
    row = {"row": 0, "label": HOSTILE, "input": [HOSTILE], "values": [HOSTILE], "status": "ok", "message": "",
           "cost_usd": 1.0, "latency_s": 1.0, "confidence": None, "simulated": True}  # fmt: skip
    failed = row | {"message": HOSTILE}
    job = dict.fromkeys(("job", "state", "message"), HOSTILE) | {
        "requests": 3,
        "answered": 1,
        "failed": 1,
        "price_usd": 1,
    }
    snapshot = {
        "run": "3f2a91c4", "head": {"total": 3, "unit": "row"}, "pinned": [row], "marks": {"0": HOSTILE},
        "columns": {"input": [HOSTILE], "output": [HOSTILE], "confidence": True},
        "jobs": [job], "fields": [chart], "failures": [group], "sample": [failed],
    }  # fmt: skip

    rows = saved_rows(SimpleNamespace(saves_rows=True, run=None), snapshot)  # type: ignore[arg-type]
    page = Page(ended_page(snapshot, HOSTILE, HOSTILE, rows)["text/html"])

    drawing = {"svg", "rect", "line", "title", "details", "summary", "mark", "sup"}
    assert page.tags <= PLAIN | drawing
    assert not {name for name in page.attributes if name.startswith("on")}
    assert page.text.count(HOSTILE) >= 14


@pytest.mark.parametrize("said", MARKDOWN)
def test_a_models_markdown_runs_nothing_and_loads_nothing(said: str) -> None:
    for shown in (Text(said)._repr_markdown_(), Text(f"before\n\n{said}\n\nafter")._repr_markdown_()):
        page = Page(markdown2html(shown))

        assert not page.tags & {"script", "img", "iframe", "svg", "object", "embed", "b", "style", "form"}
        assert not {name for name in page.attributes if name.startswith("on")}
        assert not [link for link in page.links if "script" in link]
        assert "<" not in shown.replace("< ", "")
        assert "\x1b" not in shown


def test_a_models_markdown_is_still_markdown_and_its_text_is_whole() -> None:
    said = "# Title\n\n- *one* and **two** & `three`\n- [a page](https://example.org)\n\n1 < 2, $x < y$"
    text = Text(said)

    page = Page(markdown2html(text._repr_markdown_()))

    assert {"h1", "ul", "li", "em", "strong", "code", "a"} <= page.tags
    assert page.links[-1] == "https://example.org"
    assert text._repr_markdown_() == text == said
    assert Text("<b>") == "<b>"


def test_control_characters_reach_no_terminal(sim: Simulator, cache_dir: Path) -> None:
    says = {"refuse": SimAnswer.refusal(ANSI), "break": SimAnswer.status(400, body={"error": {"message": ANSI}})}
    sim.set(answers=lambda request: says.get(request.prompt, ANSI))
    pllm.configure(servers={"mine": sim.base_url("compatible")}, model="mine:m")
    screen = io.StringIO()

    out = frame(ANSI).llm.complete("{text}")
    with pytest.raises(RowError) as refused:
        frame("refuse").llm.complete("{text}", errors="raise")
    with pytest.raises(RowError) as broken:
        frame("break").llm.complete("{text}", errors="raise")
    with pytest.raises(PllmError) as unknown:
        frame("a").llm.complete("{text}", model=f"mine{ANSI}:m")
    TerminalSink(screen).close(at(label=ANSI, note=ANSI, state="done"), None)
    shown = [repr(out.llm.explain(0)), screen.getvalue(), line_bundle(ANSI)["text/plain"]]
    previewed = Preview(out, frame(ANSI).llm.estimate(str, "{text}"))
    compared = Evaluation("answer", ANSI, 2, 0, [ANSI, "b"], [ANSI, "b"], [ANSI, "b"], None, default_library())
    kept = CacheInfo("/" + ANSI, 1, 1, 0.0, 0, None, None, {ANSI: 1})
    for one in (previewed, compared, kept, CacheCheck(1, 1, ANSI), pllm.runs()):
        shown += [repr(one), getattr(one, "_repr_html_", str)()]
    shown += [repr(Overview((("a", ANSI),))), *(str(error.value) for error in (refused, broken, unknown))]

    for text in shown:
        assert strip_control_chars(text) == text
    assert "red" in str(refused.value)
    assert out["answer"].tolist() == [ANSI]


def test_what_is_left_of_escape_sequences_is_their_text() -> None:
    assert strip_control_chars(ANSI) == "redboldgnikcatta"
    assert strip_control_chars("a\tb\nc é 😀") == "a\tb\nc é 😀"
    assert Failure(FailureKind.REFUSAL, ANSI, raw=ANSI).message == "redboldgnikcatta"


@pytest.mark.kernel
def test_a_prompt_alone_shows_a_hostile_answer_as_text(kernel: Kernel) -> None:
    kernel.ok("server = sim(answers=lambda request: '<script>attack()</script>![x](https://attacker.example)')")

    cell = kernel.ok("%%pllm --out told\nSay something")

    shown = cell.outputs[-1]["data"]["text/markdown"]
    assert shown.endswith("< script>attack()< /script>! [x](https://attacker.example)")
    assert kernel.value("told") == "<script>attack()</script>![x](https://attacker.example)"
    kernel.ok("server = sim()")


@pytest.mark.kernel
def test_a_saved_notebook_has_no_key_in_its_errors(tmp_path: Path) -> None:
    cells = [
        "%load_ext pllm_notebook\n%xmode Verbose\nimport pandas as pd, pllm_notebook as pllm",
        "import os\ndf = pd.DataFrame({'text': ['a']})\npllm.configure(servers={'mine': os.environ['GATE']})",
        "out = df.llm.complete('{text}', model='openai:m', max_retries=0)\nout.llm.errors",
        "%%pllm df --model mine:m --max-retries 0\n{text}",
        "pllm.runs()[-1].explain(0)",
        "%pllm errors",
        "df.llm.complete('{text}', model='openai:m', errors='raise', salt='another')",
        "df.llm.complete('{text}', model='mine:')",
        "df.llm.complete('{text}', model='openai:m', system='fine', columns=5j)",
        "%pllm",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    manager = KernelManager(kernel_name="tested", kernel_spec_manager=specs_in(tmp_path))
    with Parrot(400) as parrot:
        env = {
            "PLLM_CACHE_DIR": str(tmp_path / "cache"),
            "OPENAI_API_KEY": f"{CANARY}0of0the0notebook",
            "OPENAI_BASE_URL": parrot.url,
            "GATE": parrot.url.replace("//", f"//somebody:{CANARY}0password@"),
        }

        NotebookClient(notebook, km=manager, timeout=180, allow_errors=True).execute(env=env)

    saved = nbformat.writes(notebook)
    assert len(parrot.requests) == 3
    assert saved.count('"output_type": "error"') == 3
    assert "bad_request" in saved
    assert CANARY not in saved

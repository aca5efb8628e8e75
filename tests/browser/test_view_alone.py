"""The view in a page without a kernel: what it does at odd sizes and with odd data, and that no click is lost."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium
from tests.browser.view_alone import emit, head, own_page, row, sent, snapshot

pytestmark = pytest.mark.timeout(240)

LONG = "a_name_of_a_column_that_nobody_would_call_short"
ARABIC = "هذا المنتج رائع جدا وقد وصل في اليوم التالي"
FAILURES = [
    {"kind": "refusal", "count": 26, "message": "The model refused. " * 12, "rows": [5, 7], "labels": ["e", "g"],
     "can_pass": False, "can_retry": True, "price_usd": 0.00028},
    {"kind": "timeout", "count": 1, "message": "No answer in 60 s.", "rows": [3], "labels": ["c"], "can_pass": True,
     "can_retry": True, "price_usd": None},
]  # fmt: skip
WIDE = snapshot(
    columns={"input": [LONG, "text"], "output": [f"{LONG}_{n}" for n in range(12)], "confidence": True,
             "more_input": 3, "more_output": 18},
    sample=[row(n, label=f"{LONG}-{n}", input=["x" * 160, ARABIC], values=["word " * 30] * 12, confidence=0.93)
            for n in range(50, 0, -1)],
    fields=[{"name": f"{LONG}_{n}", "kind": "categories", "counted": 600, "missing": 3, "of": "", "more": 9,
             "bars": [{"label": LONG * 2, "count": 300}, {"label": ARABIC, "count": 7}]} for n in range(12)],
    failures=FAILURES,
    pace={"every_s": 1.0, "rows": [20.0, 80.5, 120], "usd": [0.001, 0.005, 0.0176], "held": [2]},
)  # fmt: skip
NOTHING = head(total=1, done=0, cached=0, failed=1, pending=0, ended=True, state="unanswered",
               says="done, nothing answered", cost_usd=None, rows_per_s=0.0, eta_s=None,
               can={"stop": False, "pause": False, "go_on": False, "retry": 1, "retry_kinds": True},
               retry="Retry 1 row")  # fmt: skip
SHAPES = {
    "usual": snapshot(),
    "thirty fields": WIDE,
    "one row that failed": snapshot(
        head=NOTHING, failures=FAILURES[1:], sample=[row(0, status="failed", values=[None, None], message="x " * 90)]
    ),
    "nothing yet": snapshot(rows=0, head=head(done=0, cached=0, failed=0, pending=4_000, state="planning")),
}
# What is cut off, but for what scrolls and for names that end in "…": a person sees the whole of each other element.
CUT = """[...document.querySelectorAll('.pllm-view *')]
  .filter(e => e.checkVisibility() && !e.closest('.pllm-scroll *, svg, .pllm-hidden, figcaption, .pllm-category-name'))
  .filter(e => e.getBoundingClientRect().right > document.querySelector('.pllm-view').getBoundingClientRect().right + 1)
  .map(e => e.className)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium() as page:
        page.resize(1700, 2400)
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    browser.open("about:blank")
    browser.until("!window.show && document.readyState == 'complete'")
    return browser


@pytest.mark.parametrize(
    ("shape", "dark"), [*((name, False) for name in SHAPES), ("thirty fields", True)], ids=lambda value: str(value)
)
def test_nothing_is_cut_off_at_any_width_and_axe_finds_no_violation(page: Page, shape: str, dark: bool) -> None:
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    axe = next(Path(spec.origin).parent.rglob("axe.min.js")).read_text(encoding="utf-8")
    own_page(page, SHAPES[shape], dark=dark)
    cut = {}
    for width in (1580, 880, 300, 580):
        page.value(f"document.querySelector('main').style.width = '{width}px'")
        cut[width] = page.value(CUT)
    page.value(f"{axe}; void 0")
    found = page.value("axe.run('.pllm-view').then(done => done.violations.map(v => v.id + ': ' + v.nodes[0].html))")

    assert not any(cut.values()), cut
    assert found == []


def test_cost_and_time_are_in_sight_beside_two_fields(page: Page) -> None:
    shown = snapshot(sample=[row(n, input=["long " * 40], values=["word " * 40, 4]) for n in range(50, 0, -1)])

    own_page(page, shown, width=580)

    assert page.value("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.pllm-scroll'))") <= 1


def test_a_text_is_cut_only_where_no_column_beside_it_is_wider_than_its_own_texts(page: Page) -> None:
    long = snapshot(sample=[row(n, input=["word " * 30]) for n in range(9, 0, -1)], marks={"7": "wrong"})

    own_page(page, long)

    spare = """[...document.querySelectorAll('.pllm-row')[2].cells].map((cell, at) => {
      const range = document.createRange();
      const heads = document.querySelector('.pllm-scroll thead').rows[0].cells;
      const width = (of) => (range.selectNodeContents(of), range.getBoundingClientRect().width);
      const { paddingLeft, paddingRight } = getComputedStyle(cell);
      const texts = Math.max(width(cell), width(heads[at].firstChild));
      return cell.getBoundingClientRect().width - texts - parseFloat(paddingLeft) - parseFloat(paddingRight);
    })"""
    text, *others = page.value(f"(all => [all[2], ...all.slice(0, 2), ...all.slice(3)])({spare})")
    assert text < -100
    assert max(others) < 3
    assert page.value("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.pllm-scroll'))") <= 1


def test_figures_stand_below_each_other_and_no_page_takes_money_for_mathematics(page: Page) -> None:
    shown = snapshot(sample=[row(n, values=["positive", 4 if n % 2 else None]) for n in range(9, 0, -1)])

    own_page(page, shown)

    assert page.value("[...document.querySelectorAll('tr > :nth-child(5)')].every(e => e.matches('.pllm-right'))")
    assert page.value("document.querySelector('.pllm-view').matches('.mathjax_ignore.tex2jax_ignore')")


def test_what_rarely_helps_can_still_be_asked_again_when_the_run_has_ended(page: Page) -> None:
    can = head()["can"] | {"retry_kinds": True}

    own_page(page, snapshot(failures=FAILURES[:1], head=head(ended=True, state="done", says="done", can=can)))
    page.value("document.querySelector('.pllm-group .pllm-button').click()")

    assert sent(page)[-1]["do"] == "retry"
    assert sent(page)[-1]["kinds"] == ["refusal"]


def test_what_is_not_shown_is_counted(page: Page) -> None:
    own_page(page, WIDE)

    assert "3 more columns and 18 more fields: open a row" in page.text(".pllm-part")
    assert "12 of 30 fields" in page.text(".pllm-part")


def test_rows_have_their_own_names_and_their_text_its_own_direction(page: Page) -> None:
    own_page(page, WIDE)

    links = page.text(".pllm-group .pllm-link").split("\n")
    emit(page, {"opened": {"row": 5, "label": "e", "facts": [], "messages": [], "value": "", "folded": []}})
    direction = page.value(
        f"getComputedStyle([...document.querySelectorAll('td')].find(e => e.title == {ARABIC!r})).direction"
    )

    assert links == ["row e", "row g", "row c"]
    assert direction == "rtl"


def press(page: Page, number: int) -> None:
    page.value(f"document.querySelector('[data-row=\"{number}\"] .pllm-pin').click()")


def pinned(page: Page) -> list[str]:
    return list(page.value("[...document.querySelectorAll('.pllm-pinned')].map(e => e.dataset.row)"))


def test_a_pin_shows_at_once_and_outlives_a_state_of_before_it(page: Page) -> None:
    own_page(page, snapshot())

    press(page, 30)
    at_once = pinned(page)
    emit(page, {"changes": {"pinned": [], "sample": [row(51)]}})  # the kernel had not heard of it yet
    press(page, 29)
    press(page, 29)
    before = pinned(page)
    asked = [message for message in sent(page) if message["do"] == "pin"]
    emit(page, {"changes": {"pinned": [row(30)]}})
    for message in asked:
        emit(page, {"received": message["n"]})

    assert at_once == before == pinned(page) == ["30"]
    assert [(message["row"], message["on"]) for message in asked] == [(30, True), (29, True), (29, False)]


def test_what_a_closed_view_did_not_hear_is_sent_to_the_one_that_takes_its_place(page: Page) -> None:
    own_page(page, snapshot())
    press(page, 30)
    page.value("document.querySelector('.pllm-stop').click()")
    first, second = (message for message in sent(page) if message["do"] in ("pin", "stop"))
    emit(page, {"received": first["n"]})

    own_page(page, snapshot(pinned=[row(30)]))

    assert [message for message in sent(page) if message["do"] in ("pin", "stop")] == [second]


def test_the_page_of_an_ended_run_has_its_view_and_the_focus_before_anything_else_happens(page: Page) -> None:
    own_page(page, snapshot())
    page.value("document.querySelector('[data-row=\"40\"] button').focus()")

    found = page.value(
        "new Promise(done => { const old = document.querySelector('main'); const next = old.cloneNode(false);"
        " old.replaceWith(next); queueMicrotask(() => done(document.activeElement.closest('tr')?.dataset.row)); })"
    )

    assert found == "40"

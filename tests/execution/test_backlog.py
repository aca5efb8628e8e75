"""What is sent next: repairs before calls, full packs while the plan goes on, nothing that others have answered."""

from __future__ import annotations

from collections.abc import Callable

from pllm_notebook.execution.backlog import Backlog
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.execution.outcomes import Ledger
from pllm_notebook.execution.packing.packer import Pack, Packer
from pllm_notebook.execution.planner import Planner
from pllm_notebook.execution.settle import Alone
from pllm_notebook.frames.item_lists import ListRows
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.settings import Options
from pllm_notebook.templates import Template


def held(count: int, *, pack: int | None, answered: Callable[[int], bool] = lambda call: False) -> Backlog:
    """A backlog of *count* calls that are yet to be added."""
    ask = build_spec(options_for({"model": "sim:openai", "pack": pack}), None, instruct=False)
    texts = [f"row {n}" for n in range(count)]
    given = ColumnData(("text",), (texts,), ([False] * count,), count)
    rows = ListRows(given, Template.compile("{text}", ["text"]), Options(), "")
    ledger = Ledger(count)
    planner = Planner(ask, rows, count, ledger, None)
    planner.walk(lambda chunk: None, lambda: False)
    packing = None if ask.packed is None else Packer(ask, rows, ledger, planner, None)
    return Backlog(
        ask, ledger, planner.prompt, packing, lambda call, keys, metas: answered(call), lambda call, why: None
    )


def taken(backlog: Backlog, *, planned: bool) -> list[tuple[int, ...]]:
    """The calls of each request, for as long as there is one."""
    requests = []
    while (offer := backlog.offer(planned=planned)) is not None:
        backlog.take(offer)
        tag = offer.tag
        requests.append(tag.calls if isinstance(tag, Pack) else (tag,) if isinstance(tag, int) else (tag.call,))
    return requests


def test_a_pack_that_is_not_full_waits_while_the_plan_goes_on() -> None:
    backlog = held(8, pack=3)
    backlog.extend(range(5))

    before = taken(backlog, planned=False)
    backlog.extend([5, 6, 7])
    after = taken(backlog, planned=False)
    last = taken(backlog, planned=True)

    assert (before, after, last) == ([(0, 1, 2)], [(3, 4, 5)], [(6, 7)])
    assert not backlog


def test_an_offer_stays_until_it_is_taken() -> None:
    backlog = held(4, pack=2)
    backlog.extend(range(4))

    first, again = backlog.offer(planned=True), backlog.offer(planned=True)

    assert first is not None
    assert again is not None
    assert first.tag == again.tag
    assert backlog.requests == 2


def test_what_others_have_answered_is_in_no_pack() -> None:
    backlog = held(8, pack=3, answered=lambda call: call in (0, 2, 3, 7))
    backlog.extend(range(8))

    assert taken(backlog, planned=True) == [(1, 4, 5), (6,)]
    assert not backlog


def test_without_packs_what_others_have_answered_is_passed_over() -> None:
    backlog = held(4, pack=None, answered=lambda call: call in (0, 2, 3))
    backlog.extend(range(4))

    assert taken(backlog, planned=False) == [(1,)]
    assert not backlog


def test_rows_that_go_alone_go_first() -> None:
    backlog = held(4, pack=2)
    backlog.extend(range(3))
    backlog.repair([Alone(3, 3, "key")])

    assert backlog.requests == 3
    assert taken(backlog, planned=True) == [(3,), (0, 1), (2,)]


def test_a_backlog_that_is_given_up_names_every_call_once() -> None:
    backlog = held(3, pack=2)
    backlog.extend(range(2))
    backlog.repair([Alone(2, 2, "key", (b"{}",))])

    ended = list(backlog.drain(Failure(FailureKind.BUDGET, "")))

    assert [(call, outcome.metas) for call, outcome in ended] == [(0, ()), (1, ()), (2, (b"{}",))]
    assert not backlog

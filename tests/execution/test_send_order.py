"""What is sent next: follow-ups before calls, full packs while the plan goes on, nothing that others have answered."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pllm_notebook.execution import ResultTable
from pllm_notebook.execution.follow_ups import SingleCall
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.execution.packing.packer import Pack
from pllm_notebook.execution.run_claims import RunClaims
from pllm_notebook.execution.services import RunServices
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.frames.item_lists import ListRows
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.settings import Options
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.templates import Template
from pllm_notebook.types import Finish
from tests.execution.test_run_claims import Everything

# After the package above, of which it is a part.
from pllm_notebook.execution.cache_recheck import CacheRecheck  # isort: skip
from pllm_notebook.execution.plan import Planner  # isort: skip
from pllm_notebook.execution.send_order import SendOrder  # isort: skip


class Stored(CacheRecheck):
    """Answers that others have stored since the plan."""

    def __init__(self, answered: Callable[[int], bool]) -> None:
        self._answered = answered

    def may_find(self, call: int) -> bool:
        return self._answered(call)

    def find(self, call: int, keys: Any) -> Any:
        return "key", StoredReply(Finish.COMPLETE, b"yes", 1, 0, b"{}", b""), True


# It is not run: an order asks it for the time, and starts timers that none of these tests waits for.
_LOOP = SimpleNamespace(
    time=lambda: 0.0, call_later=lambda delay, callback, *args: SimpleNamespace(cancel=lambda: None)
)


def order_of(count: int, *, pack: int | None, answered: Callable[[int], bool] = lambda call: False) -> SendOrder:
    """An order for *count* calls that are yet to be added."""
    spec = build_spec(options_for({"model": "sim:openai", "pack": pack}), None, instruct=False)
    texts = [f"row {n}" for n in range(count)]
    given = ColumnData(("text",), (texts,), ([False] * count,), count)
    rows = ListRows(given, Template.compile("{text}", ["text"]), Options())
    results = ResultTable(count)
    planner = Planner([spec], rows, results, None)
    planner.next_chunks()
    engine: Any = SimpleNamespace(loop=SimpleNamespace(loop=_LOOP))
    order = SendOrder(spec, planner, results, RunServices(engine, None))
    order.recheck = Stored(answered)
    return order


def taken(order: SendOrder, *, planned: bool) -> list[tuple[int, ...]]:
    """The calls of each request, for as long as there is one."""
    requests = []
    while (call := order.peek(planned=planned)) is not None:
        order.take(call.tag)
        tag = call.tag
        requests.append(tag.calls if isinstance(tag, Pack) else (tag,) if isinstance(tag, int) else (tag.call,))
    return requests


def test_a_pack_that_is_not_full_waits_while_the_plan_goes_on() -> None:
    order = order_of(8, pack=3)
    order.extend(range(5))

    before = taken(order, planned=False)
    order.extend([5, 6, 7])
    after = taken(order, planned=False)
    last = taken(order, planned=True)

    assert (before, after, last) == ([(0, 1, 2)], [(3, 4, 5)], [(6, 7)])
    assert not order.has_calls


def test_a_call_stays_until_it_is_taken() -> None:
    order = order_of(4, pack=2)
    order.extend(range(4))

    first, again = order.peek(planned=True), order.peek(planned=True)

    assert first is not None
    assert again is not None
    assert first.tag == again.tag
    assert order.requests == 2


def test_what_others_have_answered_is_in_no_pack() -> None:
    order = order_of(8, pack=3, answered=lambda call: call in (0, 2, 3, 7))
    order.extend(range(8))

    assert taken(order, planned=True) == [(1, 4, 5), (6,)]
    assert not order.has_calls


def test_without_packs_what_others_have_answered_is_passed_over() -> None:
    order = order_of(4, pack=None, answered=lambda call: call in (0, 2, 3))
    order.extend(range(4))

    assert taken(order, planned=False) == [(1,)]
    assert not order.has_calls


def test_rows_that_go_alone_go_first() -> None:
    order = order_of(4, pack=2)
    order.extend(range(3))
    order.push(SingleCall(3, 3, "key"))

    assert order.requests == 3
    assert taken(order, planned=True) == [(3,), (0, 1), (2,)]


def test_an_order_that_is_drained_names_every_call_once() -> None:
    order = order_of(3, pack=2)
    order.extend(range(2))
    order.push(SingleCall(2, 2, "key", (b"{}",)))

    ended = list(order.drain(Failure(FailureKind.BUDGET, "")))

    assert [(call, outcome.metas) for call, outcome in ended] == [(0, ()), (1, ()), (2, (b"{}",))]
    assert not order.has_calls


def test_a_run_that_pauses_releases_what_has_not_left_and_claims_it_again_in_its_turn() -> None:
    order, claims = order_of(12, pack=None), Everything()
    order.claims = RunClaims(claims, "live", None, waits=False, soon=lambda work: work(), now=lambda: 0.0)
    order.extend(range(12))
    first = order.peek(planned=True)
    assert first is not None
    order.take(first.tag)

    order.release_unsent()

    keys = order.results.keys
    assert claims.released == [set(keys[1 : claims.taken[0]])]
    assert taken(order, planned=True) == [(call,) for call in range(1, 12)]

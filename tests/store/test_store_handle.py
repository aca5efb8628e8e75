"""`pllm.cache`, and the store in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from store_cases import entry, execute, fill, held_by, key, parts

from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.store import CacheCheck, CacheHandle, DiskStore, MemoryStore
from pllm_notebook.stored_reply import StoredReply


def put(store: DiskStore, *entries: StoredReply) -> None:
    for number, one in enumerate(entries):
        store.put(key(number), one, lambda error: None)
    store.flush()


@pytest.fixture
def handle(store: DiskStore) -> CacheHandle:
    return CacheHandle(lambda: store, wall_clock=lambda: 10_000.0)


def test_info_counts_what_is_kept_and_what_it_cost(store: DiskStore, handle: CacheHandle) -> None:
    put(store, entry(0, model="a"), entry(1, model="b"), entry(2, model="b", cost_usd=None))

    info = handle.info()

    assert (info.entries, info.cost_usd, info.unpriced) == (3, 1.0, 1)
    assert list(info.models.items()) == [("b", 2), ("a", 1)]
    assert info.oldest == datetime.fromtimestamp(1000, UTC)
    assert info.newest == datetime.fromtimestamp(1002, UTC)
    assert info.directory == handle.directory == store.directory
    assert info.bytes_on_disk > 4096


def test_info_is_shown_as_text_and_as_html_without_letting_names_be_markup(
    store: DiskStore, handle: CacheHandle
) -> None:
    put(store, entry(0, model="<script>"))

    assert "\n  answers      1\n" in repr(handle.info())
    assert "\n  their cost   $0.5000\n" in repr(handle.info())
    assert "<script>" not in handle.info()._repr_html_()
    assert "&lt;script&gt;" in handle.info()._repr_html_()


def test_an_empty_cache_has_no_times(handle: CacheHandle) -> None:
    info = handle.info()

    assert (info.entries, info.oldest, info.newest, info.models) == (0, None, None, {})
    assert "from" not in repr(info)


def test_clear_without_arguments_removes_all_and_frees_the_space(store: DiskStore, handle: CacheHandle) -> None:
    fill(store, range(2000))
    before = handle.info().bytes_on_disk

    assert handle.clear() == 2000
    assert handle.info().entries == 0
    assert handle.info().bytes_on_disk < before / 4
    assert handle.clear() == 0


@pytest.mark.parametrize(
    ("wanted", "cleared"),
    [
        ("openai:gpt-6", {0, 1}),
        ("gpt-6", {0, 1, 3}),
        ("azure:gpt-6", {1, 3}),
        ("openai:gpt-6-luna", {2}),
        ("gpt-6-luna", {2}),
        ("anthropic:gpt-6", {1}),
    ],
)
def test_clear_by_model_takes_a_name_with_its_versions(
    store: DiskStore, handle: CacheHandle, wanted: str, cleared: set[int]
) -> None:
    put(
        store,
        entry(0, model="gpt-6-2026-08-01", asked="openai:gpt-6"),
        entry(1, model="gpt-6-2026-08-01"),
        entry(2, model="gpt-6-luna-2026-08-01", asked="openai:gpt-6-luna"),
        entry(3, model="gpt-6-2026-08-01", asked="azure:gpt-6"),
    )

    assert handle.clear(model=wanted) == len(cleared)
    assert {number for number in range(4) if key(number) not in store.get_many([key(number)])} == cleared


@pytest.mark.parametrize(
    ("wanted", "near"),
    [("openai", " Did you mean 'openai:gpt-6'?"), ("gpt", ""), ("openai:gpt-6-lun", " Did you mean 'openai:gpt-6'?")],
)
def test_clear_of_a_model_that_nothing_is_of_says_which_there_are(
    store: DiskStore, handle: CacheHandle, wanted: str, near: str
) -> None:
    put(store, entry(0, asked="openai:gpt-6"), entry(1, asked="openai:gpt-6"), entry(2, asked="azure:gpt-6"))

    with pytest.warns(UserWarning, match="No answer in") as warned:
        assert handle.clear(model=wanted) == 0

    assert str(warned[0].message) == (
        f"No answer in {store.directory} is from the model {wanted!r}, so nothing was deleted.{near} "
        f"There are openai:gpt-6, azure:gpt-6."
    )
    assert warned[0].filename == __file__
    assert handle.info().entries == 3


@pytest.mark.parametrize("wanted", ["sim:openai", "sim:openai/gpt-6-luna", "gpt-6"])
def test_clear_of_a_simulated_provider_takes_all_that_are_simulated_as_its(
    store: DiskStore, handle: CacheHandle, wanted: str, recwarn: pytest.WarningsRecorder
) -> None:
    asked = ("sim:openai/gpt-6-luna", "sim:openai/other", "openai:gpt-6", "sim:google/gemini")
    put(store, *(entry(number, asked=name) for number, name in enumerate(asked)))
    taken = {"sim:openai": 2, "sim:openai/gpt-6-luna": 1, "gpt-6": 1}

    assert handle.clear(model=wanted) == taken[wanted]
    assert not recwarn.list


def test_clear_by_age_counts_from_when_the_answer_came(store: DiskStore, handle: CacheHandle) -> None:
    put(store, entry(0, created_at=1000.0), entry(1, created_at=9000.0), entry(2, created_at=9990.0))

    assert handle.clear(older_than=timedelta(seconds=5000)) == 1
    assert handle.clear(older_than=timedelta(seconds=1000)) == 1
    assert handle.clear(older_than=timedelta(seconds=1000), model="m") == 0


@pytest.mark.parametrize("age", [90, 1000.0, timedelta(days=-1), float("nan"), 10**400, "90 days", True])
def test_what_is_no_age_deletes_nothing(store: DiskStore, handle: CacheHandle, age: Any) -> None:
    put(store, entry(0, created_at=1000.0))

    with pytest.raises(UsageError, match=r"such as timedelta\(days=90\), not .*Nothing was deleted\.$"):
        handle.clear(older_than=age)
    assert handle.info().entries == 1


def test_clear_of_no_model_is_an_error(store: DiskStore, handle: CacheHandle) -> None:
    fill(store, [1])

    for word in ("", "openai:", 5, b"gpt"):
        with pytest.raises(UsageError, match="Nothing was deleted"):
            handle.clear(model=word)  # type: ignore[arg-type]
    assert held_by(store, [1]) == {1}


def test_check_says_what_it_found(store: DiskStore, handle: CacheHandle, path: Path) -> None:
    fill(store, range(10))
    assert handle.check().ok
    assert repr(handle.check()) == "CacheCheck: 10 answers are whole, no damage found."

    execute(path, "UPDATE Cache SET value = x'00' WHERE key = ?", key(3))

    assert not handle.check().ok
    assert repr(CacheCheck(1, 0, "")) == "CacheCheck: 1 answer is whole, no damage found."
    assert repr(handle.check()) == "CacheCheck: 9 answers are whole, 1 row cannot be used."


def test_export_and_import_go_through_the_handle(store: DiskStore, handle: CacheHandle, tmp_path: Path) -> None:
    fill(store, range(3))

    assert handle.export(tmp_path / "out") == 3
    handle.clear()
    assert handle.import_(tmp_path / "out") == 3
    assert held_by(store, range(3)) == {0, 1, 2}


@pytest.mark.parametrize("file", ["", "\0", b"x", None, 5])
def test_what_is_no_path_of_a_file_is_named(handle: CacheHandle, file: Any) -> None:
    for work, nothing in ((handle.export, "written"), (handle.import_, "imported")):
        with pytest.raises(UsageError, match=rf"^The path of an export is expected, not .*\. Nothing was {nothing}\.$"):
            work(file)


def test_a_handle_opens_nothing_before_it_is_asked() -> None:
    opened: list[int] = []

    handle = CacheHandle(lambda: opened.append(1))  # type: ignore[arg-type, func-returns-value]

    assert "info()" in repr(handle)
    assert not opened


def test_the_store_in_memory_keeps_and_forgets() -> None:
    store = MemoryStore()
    said: list[BaseException | None] = []

    store.put(key(1), entry(1), said.append)
    store.fail_with = StoreError("full")
    store.put(key(2), entry(2), said.append)

    assert said == [None, store.fail_with]
    assert parts(store.get_many([key(1), key(2)])[key(1)]) == parts(entry(1))
    assert [name for name, _ in store.iterate()] == [key(1)]
    assert (store.delete([key(1), key(2)]), store.backlog_bytes) == (1, 0)

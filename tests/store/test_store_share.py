"""Answers that several machines share through a directory of segments."""

from __future__ import annotations

import gzip
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from store_cases import SteppingClock, entry, fill, held_by, key, parts, python

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import Simulator
from pllm_notebook.store import DiskStore, Label, LabelFile, close_stores, import_, share
from pllm_notebook.store.outbox import OUTBOX, Outbox
from pllm_notebook.store.share import Share
from pllm_notebook.stored_reply import StoredReply

Machine = Callable[[str], DiskStore]


@pytest.fixture
def common(tmp_path: Path) -> str:
    """The directory that all machines reach."""
    return str(tmp_path / "common")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Make a machine with a cache of its own."""
    stores: list[DiskStore] = []

    def make(name: str) -> DiskStore:
        stores.append(DiskStore(str(tmp_path / name)))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def shared(store: DiskStore) -> Share:
    assert store.share is not None
    return store.share


def segments(common: str) -> list[Path]:
    return sorted(Path(common).glob("*"))


@pytest.mark.parametrize("place", ["directory", "object store"])
def test_what_one_machine_keeps_the_other_takes_in(
    machine: Machine, common: str, place: str, request: pytest.FixtureRequest
) -> None:
    address = common if place == "directory" else f"memory://{request.node.name}"
    first, second = machine("first"), machine("second")
    first.share_with(address)
    second.share_with(address)
    fill(first, range(30))
    assert shared(first).ship() == 30

    assert second.take_in_shared() == 30

    assert held_by(second, range(30)) == set(range(30))
    # What was taken in is not shipped back, by either of the two.
    assert (shared(second).ship(), shared(first).ship()) == (0, 0)
    assert shared(first).take_in(at_once=True) == 0


def test_what_was_kept_before_it_was_asked_for_is_not_shared(machine: Machine, common: str) -> None:
    store = machine("first")
    fill(store, range(5))
    store.share_with(common)
    fill(store, range(5, 8))

    assert shared(store).ship() == 3


def test_an_answer_that_is_here_stays_as_it_is(machine: Machine, common: str) -> None:
    first, second = machine("first"), machine("second")
    first.share_with(common)
    fill(first, [1])
    shared(first).ship()
    second.put(key(1), entry(1000), lambda error: None)
    second.flush()
    second.share_with(common)

    assert second.take_in_shared() == 0
    assert parts(second.get_many([key(1)])[key(1)]) == parts(entry(1000))


def test_a_segment_is_a_whole_file_or_is_not_there(machine: Machine, common: str) -> None:
    store = machine("first")
    store.share_with(common)
    fill(store, range(2_500))
    shared(store).ship()

    found = segments(common)
    assert len(found) >= 3
    assert all(path.name.startswith("seg-") and path.name.endswith(".jsonl.gz") for path in found)
    with gzip.open(found[0]) as lines:
        assert b'"format":"pllm_notebook cache"' in lines.readline()


def test_a_segment_is_a_file_that_import_takes(machine: Machine, common: str) -> None:
    first, second = machine("first"), machine("second")
    first.share_with(common)
    fill(first, range(4))
    shared(first).ship()

    (path,) = segments(common)
    assert import_(second, path) == 4


def test_a_damaged_segment_is_left_out_until_it_is_whole(
    machine: Machine, common: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = machine("first"), machine("second")
    first.share_with(common)
    fill(first, range(4))
    shared(first).ship()
    (path,) = segments(common)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    (Path(common) / "seg-not-ours.jsonl.gz").write_bytes(b"hello")
    second.share_with(common)

    with caplog.at_level(logging.WARNING):
        assert second.take_in_shared() == 0
    assert caplog.text.count("A segment of the shared answers was left out") == 2

    path.write_bytes(whole)
    assert shared(second).take_in(at_once=True) == 4


def test_a_segment_of_a_later_version_is_told_once(
    machine: Machine, common: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = machine("first")
    Path(common).mkdir()
    with gzip.open(Path(common) / "seg-later.jsonl.gz", "wb") as file:
        file.write(b'{"format": "pllm_notebook cache", "version": 2}\n')
    store.share_with(common)

    with caplog.at_level(logging.WARNING):
        assert store.take_in_shared() == 0
        assert shared(store).take_in(at_once=True) == 0

    assert caplog.text.count("Upgrade pllm_notebook") == 1


def test_what_a_killed_process_did_not_ship_the_next_one_does(machine: Machine, common: str, tmp_path: Path) -> None:
    script = """
import os, sys
from store_cases import fill
from pllm_notebook.store import DiskStore
store = DiskStore(sys.argv[1])
store.share_with(sys.argv[2])
fill(store, range(20))
os._exit(9)
"""
    assert python(script, tmp_path / "first", common).wait(60) == 9
    assert not segments(common)

    again = machine("first")
    again.share_with(common)
    assert shared(again).ship() == 20

    second = machine("second")
    second.share_with(common)
    assert second.take_in_shared() == 20


def test_a_directory_that_cannot_be_reached_costs_no_answer_and_is_caught_up_with(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = tmp_path / "common"
    common.write_text("a file, where the directory should be")
    first = machine("first")
    with caplog.at_level(logging.WARNING):
        first.share_with(str(common))
        assert first.take_in_shared() == 0
        fill(first, range(3))
        first.close()

    assert held_by(first, range(3)) == {0, 1, 2}
    assert "cannot be shared with" in caplog.text
    assert "3 answers are not yet shared with" in caplog.text

    common.unlink()
    again = machine("first")
    again.share_with(str(common))
    again.close()
    second = machine("second")
    second.share_with(str(common))
    assert second.take_in_shared() == 3


def test_an_answer_after_a_quiet_time_is_shipped_as_soon_as_the_first_one(tmp_path: Path) -> None:
    class RestingClock(SteppingClock):
        def wait(self, condition: threading.Condition, seconds: float | None) -> None:
            if seconds is None:
                idle.release()
            super().wait(condition, seconds)

    idle, clock = threading.Semaphore(0), RestingClock()
    store = DiskStore(str(tmp_path / "first"))
    fill(store, range(2))
    share = Share(store, store.directory, str(tmp_path / "common"), clock)

    for number in range(2):
        share.committing([key(number)])

        assert idle.acquire(timeout=10)
        assert clock.pauses == [5.0] * (number + 1)
        assert len(segments(str(tmp_path / "common"))) == number + 1
    share.close()
    store.close()


def test_a_directory_that_cannot_be_reached_is_not_tried_earlier_for_new_answers_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class WokenClock(SteppingClock):
        """Every wait ends after a second, as if new answers ended it."""

        def wait(self, condition: threading.Condition, seconds: float | None) -> None:
            if seconds is None:
                idle.set()
            super().wait(condition, None if seconds is None else min(seconds, 1.0))

    class WatchedStore(DiskStore):
        def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
            tried_at.append(clock.now())
            if len(tried_at) == 3:
                common.unlink()
            return super().get_many(keys)

    common, idle, clock = tmp_path / "common", threading.Event(), WokenClock()
    common.write_text("a file, where the directory should be")
    tried_at: list[float] = []
    store = WatchedStore(str(tmp_path / "first"))
    fill(store, range(1_000))
    share = Share(store, store.directory, str(common), clock)
    LabelFile(store.directory).add([Label(("text",), 1, "mood", "good", "me", 0.0)])

    share.committing(map(key, range(1_000)))

    assert idle.wait(60)
    assert tried_at == [0.0, 30.0, 60.0]
    assert [caplog.text.count(f"{what} cannot be shared with") for what in ("Answers", "Labels")] == [1, 1]
    assert len(segments(str(common))) == 1
    share.close()
    store.close()


def test_closing_ships_what_is_waiting(machine: Machine, common: str) -> None:
    first = machine("first")
    first.share_with(common)
    fill(first, range(3))
    first.close()

    assert len(segments(common)) == 1


def test_an_answer_that_is_not_yet_committed_is_shipped_later(machine: Machine, common: str) -> None:
    store = machine("first")
    store.share_with(common)
    shared(store).committing([key(0)])
    assert shared(store).ship() == 0

    fill(store, [0])

    assert shared(store).ship() == 1


def test_of_two_processes_on_one_cache_one_ships_for_both(machine: Machine, common: str) -> None:
    one, other = machine("first"), machine("first")
    one.share_with(common)
    other.share_with(common)
    fill(one, range(5))
    fill(other, range(5, 9))
    outbox = Outbox(one.directory, common)
    assert outbox.lease("a third process", 60)
    assert (shared(one).ship(), shared(other).ship()) == (0, 0)
    outbox.release("a third process")

    assert shared(one).ship() == 9
    assert shared(other).ship() == 0


def test_the_lease_of_a_dead_process_ends(tmp_path: Path) -> None:
    outbox = Outbox(str(tmp_path), "s3://team/pllm")
    assert outbox.lease("dead", -1.0)

    assert outbox.lease("alive", 60)
    assert not outbox.lease("late", 60)


def test_a_damaged_record_of_the_share_begins_again(
    machine: Machine, common: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = machine("first")
    (tmp_path / "first" / OUTBOX).write_bytes(b"no database at all" * 500)
    store.share_with(common)

    fill(store, range(5))

    assert held_by(store, range(5)) == set(range(5))
    assert shared(store).ship() == 5
    assert "share.db is damaged" in caplog.text


def test_a_record_that_is_overwritten_while_it_is_open_loses_nothing(
    machine: Machine, common: str, tmp_path: Path
) -> None:
    store = machine("first")
    store.share_with(common)
    fill(store, range(3))
    for end in ("-wal", "-shm"):
        (tmp_path / "first" / (OUTBOX + end)).unlink(missing_ok=True)
    (tmp_path / "first" / OUTBOX).write_bytes(b"no database at all" * 500)

    fill(store, range(3, 5))

    assert held_by(store, range(5)) == set(range(5))
    assert shared(store).ship() == 5


def test_a_record_that_was_deleted_while_it_was_open_is_made_again(
    machine: Machine, common: str, tmp_path: Path
) -> None:
    store = machine("first")
    store.share_with(common)
    fill(store, range(3))
    for end in ("", "-wal", "-shm"):
        (tmp_path / "first" / (OUTBOX + end)).unlink(missing_ok=True)

    fill(store, range(3, 5))

    assert shared(store).ship() == 2


def test_a_forked_child_leaves_the_record_of_its_parent_alone(tmp_path: Path) -> None:
    script = f"""
import os
from pllm_notebook.store.outbox import Outbox
outbox = Outbox({str(tmp_path)!r}, "s3://team/pllm")
outbox.note(["a", "b"])
lock = outbox.change_lock
child = os.fork()
if not child:
    if outbox.change_lock is lock:
        os._exit(2)  # what is the parent's, its connection too, is not given up
    outbox.note(["c"])
    os._exit(0 if outbox.count() == 3 else 1)
assert os.waitpid(child, 0)[1] == 0
outbox.note(["d"])
assert outbox.count() == 4
"""
    assert python(script).wait(60) == 0


def test_without_fsspec_the_error_names_the_extra(
    machine: Machine, common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    with pytest.raises(UsageError, match=r"pip install 'pllm_notebook\[dataset\]'\. Nothing was sent\."):
        machine("first").share_with(common)


def test_an_address_of_no_known_kind_is_an_error(machine: Machine) -> None:
    with pytest.raises(UsageError, match=r"'nowhere://team' cannot be opened: .*Nothing was sent\."):
        machine("first").share_with("nowhere://team")


def test_a_second_machine_pays_for_nothing_that_the_first_one_asked(
    sim: Simulator, cache_dir: Path, tmp_path: Path, common: str
) -> None:
    luna = "here:any"
    pllm.configure(servers={"here": sim.base_url("compatible")})
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(12)]})
    pllm.configure(cache_share=common)
    first = frame.llm.parse(bool, "Is {text} good?", model=luna)
    close_stores()
    assert sim.stats().answered == 12

    pllm.configure(cache_dir=tmp_path / "another machine")
    estimate = frame.llm.estimate(bool, "Is {text} good?", model=luna)
    second = frame.llm.parse(bool, "Is {text} good?", model=luna)

    assert sim.stats().answered == 12
    assert estimate.cached == 12
    pd.testing.assert_frame_equal(first, second)


def test_no_pickle_of_a_segment_is_ever_loaded(machine: Machine, common: str) -> None:
    os.makedirs(common)
    files = fsspec.filesystem("file")
    files.pipe_file(f"{common}/seg-evil.jsonl.gz", gzip.compress(b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.\n"))
    store = machine("first")
    store.share_with(common)

    assert store.take_in_shared() == 0


def test_segments_that_could_not_be_noted_are_read_again_and_end_no_run(
    machine: Machine, common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("first"), machine("second")
    for store in (first, second):
        store.share_with(common)
    fill(first, range(3))
    shared(first).ship()
    noting = Outbox.take
    monkeypatch.setattr(Outbox, "take", lambda self, names: (_ for _ in ()).throw(OSError("the disk is full")))

    assert shared(second).take_in(at_once=True) == 3

    monkeypatch.setattr(Outbox, "take", noting)
    assert shared(second).take_in(at_once=True) == 0  # they are there
    assert held_by(second, range(3)) == set(range(3))


def test_of_a_group_that_is_partly_committed_the_rest_is_shipped_later(machine: Machine, common: str) -> None:
    store = machine("first")
    store.share_with(common)
    fill(store, range(2))
    shared(store).ship()
    shared(store).committing([key(0), key(5)])

    assert shared(store).ship() == 1
    fill(store, [5])
    assert shared(store).ship() == 1
    assert Outbox(store.directory, common).count() == 0


@pytest.mark.timeout(60)
def test_a_pipe_among_the_segments_keeps_nobody_waiting(
    machine: Machine, common: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = machine("first"), machine("second")
    first.share_with(common)
    fill(first, range(4))
    shared(first).ship()
    for name in ("seg-0.jsonl.gz", "lab-0.jsonl.gz"):
        os.mkfifo(Path(common) / name)
    (Path(common) / "seg-1.jsonl.gz").symlink_to("/dev/zero")
    second.share_with(common)

    with caplog.at_level(logging.WARNING):
        assert second.take_in_shared() == 4

    assert caplog.text.count("not a regular file") == 3


def test_a_segment_that_unfolds_to_many_times_its_size_is_read_in_pieces(
    machine: Machine, common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("first"), machine("second")
    first.share_with(common)
    for number in range(6):
        first.put(key(number), entry(number, raw=bytes(3 * 2**20)), lambda error: None)
    first.flush()
    shared(first).ship()
    assert sum(path.stat().st_size for path in segments(common)) < 2**20
    second.share_with(common)
    monkeypatch.setattr(share, "_GROUP_BYTES", 2**20)
    sizes: list[int] = []
    add = Share._add
    monkeypatch.setattr(Share, "_add", lambda self, group: sizes.append(len(group)) or add(self, group))

    assert second.take_in_shared() == 6

    assert max(sizes) == 1


def test_a_damaged_segment_of_labels_holds_no_other_up(
    machine: Machine, common: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = machine("first"), machine("second")
    first.share_with(common)
    LabelFile(first.directory).add([Label(("text",), 7, "mood", "good", "me", 1_000.0)])
    shared(first).take_in(at_once=True)
    (Path(common) / "lab-0.jsonl.gz").write_bytes(b"hello")
    second.share_with(common)

    with caplog.at_level(logging.WARNING):
        second.take_in_shared()

    assert [label.value for label in LabelFile(second.directory).current()] == ["good"]
    assert caplog.text.count("A segment of shared labels was left out") == 1

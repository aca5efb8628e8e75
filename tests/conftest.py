"""What every test gets: no keys, no settings of an earlier test, and no network beyond this machine."""

from __future__ import annotations

import functools
import gc
import ipaddress
import os
import random
import shutil
import signal
import socket
import ssl
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm

# Where what each test resets is kept: also after tests that import neither.
import pllm_notebook.providers
import pllm_notebook.settings
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.sim import SimOptions, Simulator

# Everything that could give a test a key, an address or a setting of the machine it runs on.
_FOREIGN = ("PLLM_", "OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "AZURE_OPENAI_", "AWS_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


# Thousands of caches are made and closed, each with many commits, which a disk takes its time for.
_MEMORY, _ROOM_BYTES = "/dev/shm", 4 << 30
if os.path.isdir(_MEMORY) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)

_GARBAGE_OBJECTS = 10_000
gc.disable()  # until all is collected: imports and tests make many objects, of which nearly all stay

# Which of a test's cases `make test` draws where it runs a sample of them.
_SEED = os.environ.get("PLLM_TEST_SAMPLE", "0")

# A rule holds for every provider and every dataframe library; `make test` tries each of its other cases with so many.
_DRAWN_OF = {"side": 2, "hosted": 2, "kit": 2}


# What takes longest is begun first: a process that took up one of these last would work alone at the end.
LONGEST = tuple(
    f"tests/{name}.py"
    for name in (
        "engine/test_grid", "test_local", "faults/test_batch_steps", "contract/test_guarantee",
        "contract/test_foreign_text", "typing/test_typing", "faults/test_exits", "lab/test_improve",
        "notebook/test_kernel_sessions", "notebook/test_kernel_stopping", "lab/test_race", "faults/test_disk",
        "frames/test_calibrations", "faults/test_steps", "test_docs_code", "lab/test_compare",
        "store/test_store_connections", "batch/test_crashes", "faults/test_interrupts", "lab/test_bundle",
        "unit/test_package", "statistics/test_calibration", "notebook/test_kernel_programs",
        "contract/test_guarantee_faults", "test_quickstart", "frames/test_every_method", "contract/test_programs",
        "contract/test_budget", "simulation/test_seeds", "streams/test_dask", "notebook/test_kernel_jobs",
        "structure/test_structure",
    )
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as "full" what a test that runs a sample of its cases has not drawn, and begin with what takes longest."""
    if hasattr(config, "workerinput") and not config.pluginmanager.hasplugin("randomly"):
        order = {name: at for at, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.nodeid.split("::")[0], len(order)))
    cases: dict[tuple[Any, ...], list[pytest.Item]] = defaultdict(list)
    for item in items:
        name, callspec = item.nodeid.split("[")[0], getattr(item, "callspec", None)
        if marker := item.get_closest_marker("sample"):
            cases[name, marker.args[0]].append(item)
        elif callspec and not item.get_closest_marker("every_case"):
            for axis in _DRAWN_OF.keys() & callspec.indices.keys():
                others = sorted((other, at) for other, at in callspec.indices.items() if other != axis)
                cases[name, _DRAWN_OF[axis], axis, *others].append(item)
    for (name, number, *which), all_of_it in cases.items():
        drawn = random.Random(f"{_SEED} {name}{which or ''}").sample(range(len(all_of_it)), min(number, len(all_of_it)))
        for at in set(range(len(all_of_it))).difference(drawn):
            all_of_it[at].add_marker(pytest.mark.full)


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of every later collection of garbage: it stays until the end.

    And look for garbage more rarely than a program should that goes on for days.
    """
    gc.enable()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def shared_certificates() -> Iterator[None]:
    """Read the certificates once: each client of an SDK reads them, and none of them matters on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


class NetworkClosedError(RuntimeError):
    """A test tried to leave this machine. Not an OSError: nothing may take it for a lost connection."""


@pytest.fixture(scope="session", autouse=True)
def closed_network() -> Iterator[None]:
    """Close the network, except for loopback and sockets of the file system."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_unless_here(self.family, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_unless_here(self.family, address)
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *args: Any, **also: Any) -> Any:
        if not _is_here(host):
            raise NetworkClosedError(f"A test tried to look up {host!r}.")
        return look_up(host, *args, **also)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Hear SIGINT, which a shell has its background jobs ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nobodys_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without keys, addresses, proxies and settings, and leave no settings behind."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    yield
    RUNTIME.reset("settings", "askers", "quirks")


@pytest.fixture
def cache_dir(tmp_path: Path) -> Iterator[Path]:
    """An empty cache that runs of this test use; the engine ends with the test, and with it all it has learned."""
    directory = tmp_path / "cache"
    pllm.configure(cache_dir=directory, progress=False)
    yield directory
    RUNTIME.reset()


@pytest.fixture(scope="session")
def sim_server() -> Iterator[Simulator]:
    """One simulator for the whole session, since starting a process takes a second."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(sim_server: Simulator) -> Simulator:
    """The simulator, as good as new."""
    return _renewed(sim_server)


@pytest.fixture(scope="module")
def module_sim(sim_server: Simulator) -> Simulator:
    """The simulator, as good as new, for fixtures that the tests of a module share."""
    return _renewed(sim_server)


def _renewed(simulator: Simulator) -> Simulator:
    simulator.set(**SimOptions().as_json(), answers=None)
    simulator.reset()
    return simulator


def _refuse_unless_here(family: int, address: Any) -> None:
    if family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
        raise NetworkClosedError(f"A test tried to connect to {address!r}.")


def _is_here(host: Any) -> bool:
    if host in (None, "", b"", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False

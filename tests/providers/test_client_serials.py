"""What tells a caller's client from those that were before it."""

from __future__ import annotations

from pllm_notebook.providers.clients import serial_of


class Client:
    pass


class Slotted:
    __slots__ = ()


def test_a_client_is_never_taken_for_one_that_is_gone() -> None:
    # Each has the memory, and so the id, of the one before it.
    assert len({serial_of(Client()) for _ in range(100)}) == 100


def test_the_same_client_is_the_same_whatever_its_class_allows() -> None:
    for client in (Client(), Slotted()):
        assert serial_of(client) == serial_of(client)
    assert serial_of(Client()) != serial_of(Slotted())

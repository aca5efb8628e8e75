"""What opens an account, held where nothing that shows an object looks.

Tracebacks with local variables, `vars()`, a saved notebook and a pickle all show what an object holds. A key is
held by a function, which shows nothing, and taken out once: as the argument of an SDK's client.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

from pllm_notebook.exceptions import UsageError
from pllm_notebook.redaction import add_secret

__all__ = ["Address", "Key", "redact_header"]


def redact_header(value: str) -> None:
    """Redact a header's value from every text: whole, without its scheme, and the password of a login."""
    add_secret(value)
    scheme, _, bare = value.strip().partition(" ")
    add_secret(bare)
    if scheme.lower() == "basic":
        with suppress(ValueError):
            add_secret(base64.b64decode(bare, validate=True).decode("utf-8", "replace").partition(":")[2])


class Key:
    """An API key, or a password. It has no value in its representation, its attributes or a copy.

    From its making on it is taken out of messages, logs and stored failures too (see `redaction.know`).

    Args:
        value: The key. White space around it, as a file's last line has it, is no part of it.
    """

    __slots__ = ("reveal",)

    reveal: Callable[[], str]
    """Gives the value. For an SDK's client, and nothing else."""

    def __init__(self, value: str) -> None:
        bare = value.strip()
        add_secret(bare)
        self.reveal = lambda: bare

    def __repr__(self) -> str:
        return "<key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled or copied; each process reads it from its own environment.")

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def fingerprint(self, address: Address) -> str:
        """Return a fingerprint of the account at *address*, without keeping what would open it."""
        login = "" if address.login is None else f"\n{address.login.reveal()}"
        return hashlib.sha256(f"{address}\n{self.reveal()}{login}".encode()).hexdigest()[:12]

    def check(self, where: str) -> None:
        """Refuse what no request can carry.

        Args:
            where: What holds the key, for a person.

        Raises:
            UsageError: For a character that a header cannot have. The message tells nothing of the key.
        """
        if not all("!" <= character <= "~" for character in self.reveal()):
            raise UsageError(
                f"The key of {where} has a character that no key has: a blank, a line break, or one that is not "
                f"ASCII. Copy it again. Nothing was sent."
            )


class Address(str):
    """A server's address without the user and password that it may have been written with.

    They are sent as a browser sends them; where the key would go into the same header, in its place.

    Attributes:
        login: Both, as the value of an `Authorization` header; None for none.
    """

    login: Key | None

    def __new__(cls, written: str) -> Address:
        if isinstance(written, Address):
            return written
        parts = urlsplit(written) if "@" in written else None
        if parts is None or "@" not in parts.netloc:
            address, login = super().__new__(cls, written), None
        else:
            known, _, host = parts.netloc.rpartition("@")
            address = super().__new__(cls, urlunsplit(parts._replace(netloc=host)))
            add_secret(unquote(known.partition(":")[2]))
            login = Key("Basic " + base64.b64encode(unquote(known).encode()).decode())
            redact_header(login.reveal())
        address.login = login
        return address

    def headers(self) -> dict[str, Any]:
        """Return the headers that its gate asks for. For an SDK's client, and nothing else."""
        return {} if self.login is None else {"Authorization": self.login.reveal()}

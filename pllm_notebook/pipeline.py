"""Former name of `pllm_notebook.sessions`, kept for one release, so that old imports and pickles still work."""

import sys
from types import ModuleType

from pllm_notebook import sessions
from pllm_notebook.sessions import *  # noqa: F403
from pllm_notebook.sessions import call, error_response, lazy_reply, message_state

__all__ = sessions.__all__

Reply = lazy_reply.LazyReply


def _module(name: str, home: ModuleType, **also: object) -> None:
    """Register a former submodule with the names of the module *home*, and with *also*."""
    former = sys.modules[f"{__name__}.{name}"] = ModuleType(f"{__name__}.{name}", home.__doc__)
    vars(former).update({key: value for key, value in vars(home).items() if not key.startswith("__")}, **also)


_module("replies", lazy_reply, Reply=Reply)
_module("calls", call)
_module("failing", error_response)
_module("states", message_state)

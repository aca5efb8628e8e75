"""`.llm` loads what is behind it on its first use, which may be interrupted."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd
import pytest


def test_an_interrupt_while_the_package_loads_is_one_line_and_the_next_use_loads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = importlib.import_module

    def interrupt(name: str) -> Any:
        monkeypatch.setattr(importlib, "import_module", load)
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupt)
    frame: Any = pd.DataFrame({"t": ["a"]})

    with pytest.raises(KeyboardInterrupt, match=r"while pllm_notebook was loading\. Nothing was sent") as caught:
        _ = frame.llm

    assert caught.value._render_traceback_() == [f"KeyboardInterrupt: {caught.value}"]  # type: ignore[attr-defined]
    assert callable(frame.llm.parse)

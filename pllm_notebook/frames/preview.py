"""A few rows and what all of them would cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pllm_notebook.escaping import strip_control_chars
from pllm_notebook.execution import Estimate

__all__ = ["Preview"]


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows answered, and an estimate for all.

    Attributes:
        frame: The first rows with their answers; a Series where `parse` returns one.
        estimate: What all rows would send and cost, measured on these.
    """

    frame: Any
    estimate: Estimate

    def __repr__(self) -> str:
        return strip_control_chars(f"{self.frame!r}\n\n{self.estimate!r}")

    def _repr_html_(self) -> str:
        frame = self.frame.to_frame() if hasattr(self.frame, "to_frame") else self.frame
        return strip_control_chars(f"{frame._repr_html_()}{self.estimate._repr_html_()}")

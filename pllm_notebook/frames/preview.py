"""A few rows and what all of them would cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pllm_notebook.run import Estimate
from pllm_notebook.shown import without_controls

__all__ = ["Preview"]


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows answered, and an estimate for all.

    Attributes:
        frame: The first rows with their answers; a Series where `parse` gives one.
        estimate: What running all rows would send and cost; measured on these.
    """

    frame: Any
    estimate: Estimate

    def __repr__(self) -> str:
        return without_controls(f"{self.frame!r}\n\n{self.estimate!r}")

    def _repr_html_(self) -> str:
        frame = self.frame.to_frame() if hasattr(self.frame, "to_frame") else self.frame
        return without_controls(f"{frame._repr_html_()}{self.estimate._repr_html_()}")

"""Prompts with images or documents from a row's columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.frames.rows import ColumnData, LazyPrompts
from pllm_notebook.local_files import AllowedDirectories
from pllm_notebook.media import load_media
from pllm_notebook.messages_types import Dialogue, Media, Prompt, Turn
from pllm_notebook.providers import largest_file_for

__all__ = ["MediaPrompts"]


class PromptTexts(Protocol):
    """The texts of the rows' prompts."""

    source: str

    def __call__(self, rows: range) -> Sequence[str | Failure | None]:
        """Return the texts of some rows: None for a row to skip, a failure for a row that cannot be sent."""

    def items(self, rows: range) -> list[bytes]:
        """Return the content of each row in a pack."""


class MediaPrompts:
    """A run's prompts with images (see `rows.prompts_of`). A file is read each time its row is requested.

    Args:
        texts: The text of each row's prompt.
        given: The columns of images. A cell is a path, a URL, a data URL, bytes, a PIL image, or a list of these.
        na: As in `Options`, for cells that are missing or an empty list.
        bare: Whether there is no text, that is, neither a prompt nor a column other than images.
        images_from: Directories of the files named in cells (see `Options`).
        model: The model that receives the files, None if unknown.

    Raises:
        UsageError: With na="raise", if a cell is missing. Nothing was sent.
    """

    def __init__(
        self,
        texts: PromptTexts,
        given: ColumnData,
        na: str,
        *,
        bare: bool,
        images_from: Sequence[str] | None = None,
        model: str | None = None,
    ) -> None:
        self._texts = texts
        self._given = given
        self._skip = na != "send"
        self._bare = bare
        self._places = AllowedDirectories.of(images_from)
        self._largest = largest_file_for(model)
        self.source, self.items = texts.source, texts.items
        if na == "raise":
            self._refuse_missing()

    def __call__(self, rows: range) -> Sequence[Prompt | Failure | None]:
        texts: Sequence[str | Failure | None] = [""] * len(rows) if self._bare else self._texts(rows)
        return _PromptsWithMedia(texts, [partial(self._shown, row) for row in rows])

    def _shown(self, row: int, text: str) -> Prompt | Failure | None:
        cells = [_cells(values[row], missing[row]) for values, missing in self._columns()]
        if self._skip and not all(cells):
            return None
        media: list[Media] = []
        for name, cell in zip(self._given.names, cells, strict=True):
            for source in cell:
                try:
                    media.append(load_media(source, self._places, self._largest))
                except UsageError as error:
                    text_of_error = str(error).replace("Nothing was sent.", "Nothing was sent for this row.")
                    return Failure(FailureKind.INPUT, f"Column {name!r}: {text_of_error}")
        return Dialogue((Turn("user", text, tuple(media)),)) if media else text

    def _columns(self) -> zip[tuple[Sequence[Any], Sequence[bool]]]:
        return zip(self._given.values, self._given.missing, strict=True)

    def _refuse_missing(self) -> None:
        for name, (values, missing) in zip(self._given.names, self._columns(), strict=True):
            rows = [row for row in range(self._given.total) if not _cells(values[row], missing[row])]
            if rows:
                raise UsageError(
                    f"Column {name!r} has {len(rows):,} rows without an image, the first in row {rows[0]:,}, and "
                    f"na='raise'. Fill or drop them, or pass na='skip'. Nothing was sent."
                )


class _PromptsWithMedia(LazyPrompts):
    """Texts, each with a function that adds the media of its row."""

    def _made(self, at: int) -> Prompt | Failure | None:
        text = self._prompts[at]
        made: Prompt | Failure | None = self._beside[at](text) if isinstance(text, str) else text
        return made


def _cells(cell: Any, missing: bool) -> list[Any]:
    """Return the media of a cell in order, [] for none."""
    if isinstance(cell, (list, tuple)):
        return [one for one in cell if one is not None]
    return [] if missing or cell is None or (isinstance(cell, str) and not cell.strip()) else [cell]

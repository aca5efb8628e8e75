"""Selection of the examples for a row. It depends only on the row's text, the examples and the options.

So the same row gets the same examples, and its answer the same key, in a preview, in the whole frame and after a sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from pllm_notebook.exceptions import UsageError
from pllm_notebook.formatting import counted
from pllm_notebook.frames.example_pool import ExamplePool
from pllm_notebook.frames.near_duplicates import Fingerprints
from pllm_notebook.messages_types import Example
from pllm_notebook.settings import Options
from pllm_notebook.statistics import scikit_learn

__all__ = ["RowExamples"]

BYTES_PER_TOKEN = 4
_TURN_TOKENS = 8
"""Tokens of an example besides its text: two turns with their roles."""
_MOST = 8
"""Number of examples if the options set none and the selection is "diverse" or "nearest"."""
_DIGITS = 6
"""Decimal places of a similarity. Machines may differ beyond them; equal similarities keep the order."""


class RowExamples:
    """The examples of each row.

    Args:
        pool: The examples to choose from.
        options: The resolved options.

    Attributes:
        shared: The examples of every row that is not a near-duplicate of one of them; () if each row has its own.

    Raises:
        UsageError: If no example fits into `max_example_tokens`. Nothing was sent.
        MissingPackageError: If examples are chosen by similarity and scikit-learn is not installed.
    """

    def __init__(self, pool: ExamplePool, options: Options) -> None:
        self._pool = pool
        self._tokens = [_tokens(example) for example in pool.examples]
        self._budget = options.max_example_tokens
        self._most = options.max_examples
        if min(self._tokens) > self._budget:
            raise UsageError(
                f"No example has room within max_example_tokens={self._budget:,}: the shortest takes "
                f"{min(self._tokens):,}. Nothing was sent."
            )
        if options.example_selection != "first":
            self._most = self._most or _MOST
        self._space = _Similarities(pool.texts) if options.example_selection == "nearest" else None
        chosen: Sequence[int] = ()
        if options.example_selection == "diverse":
            chosen = self._fitting(self._diverse())
        elif self._space is None:
            chosen = self._fitting(range(len(pool.examples)))
        self.shared = tuple(pool.examples[at] for at in chosen)
        self.left_out = len(pool.examples) - len(chosen)
        self._own = Fingerprints(pool.texts)
        self._chosen = tuple(chosen)

    @property
    def described(self) -> dict[str, Any]:
        """The examples' entry in the registry of runs, without their texts: how many there are, and a digest."""
        written = [f"{one.prompt}\0{one.answer}".encode("utf-8", "surrogatepass") for one in self._pool.examples]
        return {
            "of": len(written),
            "shared": len(self.shared),
            "digest": sha256(b"\0\0".join([*written, repr(self._chosen).encode()])).hexdigest()[:16],
        }

    def of(self, texts: Sequence[str]) -> tuple[list[tuple[Example, ...] | None], list[bool]]:
        """Return the examples of rows with these texts, and whether each row is an example or nearly one.

        Returns:
            The examples of each row, None for the shared ones; and for each row whether it or a near-duplicate of it
            is among the examples of this run.
        """
        if self._space is not None:
            return self._nearest(texts, self._space)
        shown: list[tuple[Example, ...] | None] = []
        for text in texts:
            near = set(self._own.near(text, self._chosen))
            shown.append(tuple(self._pool.examples[at] for at in self._chosen if at not in near) if near else None)
        return shown, [own is not None for own in shown]

    def _nearest(
        self, texts: Sequence[str], space: _Similarities
    ) -> tuple[list[tuple[Example, ...] | None], list[bool]]:
        shown: list[tuple[Example, ...] | None] = []
        taken = []
        for text, order in zip(texts, space.nearest(texts), strict=True):
            # Near-duplicates come first in the order, so more examples are considered than are shown.
            first = order[: 4 * (self._most or _MOST) + 16]
            near = set(self._own.near(text, first))
            chosen = self._fitting([at for at in first if at not in near])
            # The nearest example comes last, next to the row.
            shown.append(tuple(self._pool.examples[at] for at in reversed(chosen)))
            taken.append(bool(near))
        return shown, taken

    def _fitting(self, order: Sequence[int]) -> list[int]:
        """Return the positions, taken greedily in *order*, that fit into the budget and the maximum number."""
        chosen: list[int] = []
        left = self._budget
        for at in order:
            if self._most is not None and len(chosen) >= self._most:
                break
            if self._tokens[at] <= left:
                chosen.append(at)
                left -= self._tokens[at]
        return chosen

    def _diverse(self) -> list[int]:
        """Return the example nearest to the centre of each cluster, large clusters first. Each gives one example."""
        texts = self._pool.texts
        vectors = _Similarities(texts).vectors
        count = min(self._most or _MOST, len(texts))
        if count == len(texts):
            return list(range(count))
        from sklearn.cluster import KMeans

        found = KMeans(count, n_init=4, random_state=0).fit(vectors)
        distances = np.round(found.transform(vectors), _DIGITS)
        members = [np.flatnonzero(found.labels_ == cluster) for cluster in range(count)]
        members = sorted((own for own in members if len(own)), key=lambda own: (-len(own), int(own[0])))
        return [int(own[np.argmin(distances[own, found.labels_[own[0]]])]) for own in members]


def _tokens(example: Example) -> int:
    size = len(example.prompt.encode("utf-8", "surrogatepass")) + len(example.answer.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_PER_TOKEN) + _TURN_TOKENS


class _Similarities:
    """Texts as the TF-IDF weights of their three-letter pieces, fitted to these texts alone."""

    def __init__(self, texts: Sequence[str]) -> None:
        text = scikit_learn("sklearn.feature_extraction.text", "example_selection")
        self._vectorizer: Any = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), dtype=np.float64)
        try:
            self.vectors: Any = self._vectorizer.fit_transform(texts)
        except ValueError:
            raise UsageError(
                f"The {counted(len(texts), 'example')} have no words, so none is nearer than another: "
                f"take example_selection='first'. Nothing was sent."
            ) from None

    def nearest(self, texts: Sequence[str]) -> list[list[int]]:
        """Return, for each text, the positions of all pool texts, most similar first; equal ones stay in order."""
        found = np.round((self._vectorizer.transform(texts) @ self.vectors.T).toarray(), _DIGITS)
        return [np.argsort(-row, kind="stable").tolist() for row in found]

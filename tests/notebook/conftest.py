from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.notebook.kernels import Kernel

SETUP = """
import asyncio, warnings
import pandas as pd
import pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel, Field
from pllm_notebook.sim import shared
%load_ext pllm_notebook

class Review(BaseModel):
    '''Facts stated in a product review.'''
    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)

def reviews(count, word="review"):
    return pd.DataFrame({"text": [f"{word} number {i}" for i in range(count)]})

def sim(**options):
    pllm.configure(sim=options)
    server = shared(options)
    server.reset()
    return server

pllm.configure(model="sim:openai")
df = reviews(5)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a cache of its own, the extension loaded, a type, a frame, and a simulator."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"), SETUP)
    yield kernel
    kernel.close()

"""A provider that nobody has heard of: all of it is in this folder."""

from __future__ import annotations

import re

from pllm_notebook.providers import Provider
from pllm_notebook.providers.provider import ModelFacts
from pllm_notebook.schema import GRAMMAR
from tests.providers.toy.transport import connect
from tests.providers.toy.wire import Riddles

PROVIDER = Provider(
    name="toy",
    title="Toy",
    wires=(Riddles(),),
    dialect=GRAMMAR,
    key_variables=("TOY_API_KEY",),
    cheap_model="toy-mini",
    connect=connect,
    hosts=("toy.example",),
    models=ModelFacts(bare=re.compile("toy-")),
)

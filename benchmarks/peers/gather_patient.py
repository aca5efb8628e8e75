"""`gather.py` with ten retries and 256 calls at once."""

from __future__ import annotations

from functools import partial

from gather import ask
from work import report

if __name__ == "__main__":
    report(partial(ask, at_once=256, retries=10))

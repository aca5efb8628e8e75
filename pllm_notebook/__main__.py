"""`python -m pllm_notebook` is the `pllm` command."""

from __future__ import annotations

import sys

from pllm_notebook.cli import main

if __name__ == "__main__":
    sys.exit(main())

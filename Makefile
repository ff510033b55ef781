# `make demo` and `make test` set up .venv once, and again when setup.cfg, pyproject.toml or constraints.txt change.
# Use another interpreter with `make clean` and then `make PYTHON=python3.12 ...` (3.11 to 3.13).

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CANDIDATES := python3 python3.13 python3.12 python3.11 python

# Without PYTHON: the first interpreter of a fitting version that can make a virtual environment.
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.DEFAULT_GOAL := help
.PHONY: help setup demo whitepaper gallery test test-fast lint types bench clean

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP)  ## make .venv and install mimic with its development tools
	@:

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -c 'import pip; $(FITS)' >/dev/null 2>&1; then \
	  found=""; \
	  for candidate in $(if $(PYTHON),$(PYTHON),$(CANDIDATES)); do \
	    if "$$candidate" -c '$(FITS)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "mimic needs Python 3.11, 3.12 or 3.13 with venv; tried: $(if $(PYTHON),$(PYTHON),$(CANDIDATES))." >&2; \
	    echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up $(VENV) with $$("$$found" --version) (some minutes, once)"; \
	  rm -rf $(VENV); \
	  "$$found" -m venv $(VENV); \
	fi; \
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev,raster,scale,whitepaper,html]"; \
	touch $(STAMP)

demo: $(STAMP)  ## run the demo into runs/demo: tables, figures, its paper (PDF) and its page (HTML)
	@rm -rf runs/demo
	@$(BIN)/mimic run experiments/demo.yaml --out runs/demo
	@$(BIN)/mimic report runs/demo
	@$(BIN)/mimic whitepaper runs/demo --refresh

whitepaper: $(STAMP)  ## build mimic's own paper from the demo, its grid, and the real studies whose data are here
	@$(BIN)/python whitepaper/build.py

gallery: $(STAMP)  ## draw the pictures of docs/gallery.md anew, from runs/whitepaper
	@$(BIN)/python docs/make_gallery.py runs/whitepaper

test: $(STAMP)  ## all tests, whole experiments included
	@$(BIN)/python -m pytest -q

test-fast: $(STAMP)  ## the tests without whole experiments
	@$(BIN)/python -m pytest -q -m "not slow"

lint: $(STAMP)  ## style, format and spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

types: $(STAMP)  ## check the annotations
	@$(BIN)/mypy mimic

bench: $(STAMP)  ## every benchmark, at its small size
	@set -e; for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || { echo "no benchmarks yet"; break; }; \
	  echo "== $$script"; $(BIN)/python "$$script" --quick; \
	done

clean:  ## remove .venv, caches and build products; runs/ is kept
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

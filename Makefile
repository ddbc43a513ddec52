# make search: set up on a fresh machine, then search a network within a budget on the embedded data.
# make test:   set up, then every test not marked slow or gpu.
PYTHON ?= python3
VENV := .venv
BUDGET ?= 128k_params_30M_macs

.PHONY: search test test-all lint setup clean

search: setup
	$(VENV)/bin/python search/run.py --budget $(BUDGET)

test: setup
	$(VENV)/bin/python -m pytest

test-all: setup
	$(VENV)/bin/python -m pytest -m ""

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

setup: $(VENV)/.installed

# pip is asked again only when the dependencies change
$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("error: TinyScene needs Python 3.10 or newer, found " + sys.version.split()[0])'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip 'setuptools<81' wheel
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs

# Each target sets itself up in a virtual environment; VENV and PYTHON can be overridden.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed-agad-tf
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-slow check format clean

demo: $(STAMP)
	$(BIN)/agad-tf demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -rs tests

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit("agad_tf needs Python 3.11 or later; found %d.%d: set PYTHON=" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt -e .
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache

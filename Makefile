# Each target sets itself up in a virtual environment; VENV and PYTHON can be overridden.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CORE = $(VENV)/.installed-core
STAMP = $(VENV)/.installed-agad-tf
export TF_CPP_MIN_LOG_LEVEL ?= 3
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: demo test test-slow test-lowest bench check format docs notebooks dist clean

demo: $(CORE)
	$(BIN)/agad-tf demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" -rs tests

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -rs tests

# The lowest versions that setup.py allows, in an environment of its own: the models, a run, its export.
LOWEST_TESTS = models/test_agad models/test_agad_model models/test_aa_bigan_model layers/test_routed_batch_norm \
  networks/test_networks data/test_quota layers/test_preprocessing export/test_saved_model commands/test_cli
test-lowest: requirements-lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet -r requirements-lowest.txt -e .
	$(VENV)-lowest/bin/python -m pytest -m "not slow" -rs $(LOWEST_TESTS:%=tests/%.py)

# Training and scoring against PyTorch, about half an hour on two cores; see benchmarks/README.md.
BENCH = $(VENV)-bench
SPEED = $(BIN)/python benchmarks/training_speed.py --torch $(BENCH)/bin/python
SPEED_OUT = --out benchmarks/results/training_speed.json
bench: $(CORE) $(BENCH)/.installed
	$(SPEED) --what aa_bigan encoder_decoder unet unet_plus_plus scoring shares growth $(SPEED_OUT)
	$(SPEED) --what aa_bigan encoder_decoder --threads 2 $(SPEED_OUT)

$(BENCH)/.installed: requirements-bench.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet -r requirements-bench.txt
	@touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

# Edit the notebooks in Jupyter, then store what a run from top to bottom shows.
notebooks: $(STAMP)
	$(BIN)/python tests/support/notebook_runs.py

dist: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

# What the library itself needs, at the tested versions: a constraints file takes no extras.
$(CORE): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit("agad_tf needs Python 3.11 or later; found %d.%d: set PYTHON=" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	sed 's/\[[^]]*\]//' requirements.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt -e '.[tensorboard,features]'
	@touch $@

$(STAMP): $(CORE)
	$(BIN)/python -m pip install --quiet -r requirements.txt -e .
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-bench build dist site *.egg-info .pytest_cache .ruff_cache

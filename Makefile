# make run   the whole workflow on the demo data set
# make test  the tests
# make docs  the documentation, in docs/_build/html
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := data/demo.h5ad
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test docs setup format clean
.DELETE_ON_ERROR:

run: setup $(DEMO)
	snakemake --cores all

test: setup
	pytest

docs: setup
	sphinx-build -W --keep-going -E -j auto -q docs docs/_build/html

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mlmgen needs Python 3.11 or later: make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	touch $@

$(DEMO): mlmgen/simulate.py | setup
	mlmgen simulate --output $@

format: setup
	ruff check --fix . && ruff format . && snakefmt Snakefile workflow

clean:
	rm -rf results data/demo.h5ad .snakemake docs/_build

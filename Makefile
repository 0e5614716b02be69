# The targets a newcomer needs. Everything is installed into one virtual environment, at the pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUNS = $(VENV)/.runs
INSTALLED = $(VENV)/.installed
STAGES = generate train infer evaluate report

.PHONY: install demo test test-ci test-all test-cluster faults docs docs-test lint clean

install: $(INSTALLED)

# what stages need: of the megabytes that the tests want beside it, a browser's driver and LALSuite among them, the demo has no use
$(RUNS): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[gwf]'
	touch $@

$(INSTALLED): $(RUNS)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,gwf]'
	touch $@

# the main job end to end, on this machine: make demo [ARGS="workdir=... section.key=value ..."]
demo: $(RUNS)
	@set -e; for stage in $(STAGES); do \
	  echo "== glitchflow $$stage configs/quickstart.yaml $(ARGS)"; \
	  $(BIN)/glitchflow $$stage configs/quickstart.yaml $(ARGS); \
	done
	@echo "== next: open that page in a browser, then"
	@echo "  $(BIN)/glitchflow clean configs/quickstart.yaml $(ARGS)"
	@echo "  $(BIN)/glitchflow event configs/quickstart.yaml GPS $(ARGS)    # a page about one time: of the page's table of events"
	@echo "  $(BIN)/glitchflow init my.yaml --frames 'DIR/*.gwf' --strain NAME    # the same of recorded data"

# two processes, each with a Ray of its own and 3 GB: more have more to start than they gain on a few cores
test: install
	$(BIN)/pytest -m "not ci and not slow" -n 2 --dist worksteal

# what takes longer: processes, servers, browsers, faults, pages; continuous integration runs it after `make test`
test-ci: install
	$(BIN)/pytest -m "ci and not slow" -n 2 --dist worksteal

test-all: install
	$(BIN)/pytest

# faults and bad input, each by one rule (docs/faults.md); goes on where it was stopped. Three: half of it is waiting
faults: install
	GLITCHFLOW_FAULTS=.faults $(BIN)/pytest tests/faults -n 3 --dist worksteal
	rm .faults

# readers of outside bytes, given files with some bytes changed: make fuzz FUZZ="--minutes 60 --seed 2"
fuzz: install
	PYTHONPATH=tests $(BIN)/python -m faults.fuzz $(FUZZ)

# hosts, and a Slurm, made on this machine: what is missing for a test is printed with its name
test-cluster: install
	$(BIN)/pytest -m slow tests/cluster

# the pages as a site, build/site/index.html: a warning is an error
docs: install
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# the tutorial from top to bottom, and every command of the pages on the configuration that it names
docs-test: install
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/pytest -m slow tests/test_docs.py

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

# make demo    embed the shipped sample, print its report, draw it: everything lands in demo/
# make test    the whole test suite, doctests included
# make check   lint, format, types, layering, documentation, examples
# make page    the script of the page, from web/ (needs npm), its lint, types and tests
# make figures  every table of the documentation that two cores can make (hours)
# make mutate  small changes of the code: do the tests notice? (hours; it goes on where it stopped)
# make newcomer  what the installation page says, line by line, in an empty folder: what does each take?
# make venv    only the virtual environment that the three above use

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# One test process for each core; each of them keeps torch and BLAS to one thread.
JOBS   ?= $(shell getconf _NPROCESSORS_ONLN)
SOURCES := $(shell find poincare_taxa -type f -not -name '*.pyc')

.PHONY: venv demo test check lint types layers docs links examples figures newcomer page mutate wheel clean
.DELETE_ON_ERROR:

venv: $(STAMP)

# The constraints come first: they name the CPU build of torch by its exact version.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: demo/report.txt

demo/report.txt: $(STAMP) $(SOURCES)
	$(BIN)/poincare-taxa demo --out demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: lint types layers docs examples

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

# Addresses outside this project; not in CI, which needs no network for its documentation.
links: $(STAMP)
	rm -rf docs/_build/links
	$(BIN)/python -m sphinx -Q -D nb_execution_mode=off -b linkcheck docs docs/_build/links || test $$? = 1
	$(BIN)/python .ci/links.py docs/_build/links/output.json

# As scripts, with the time of each; the documentation runs them once more, as the notebooks that
# readers see.
examples: $(STAMP)
	$(BIN)/python -m benchmarks examples

# Every table of the documentation that two cores can make; `python -m benchmarks figures` lists them.
figures: $(STAMP)
	$(BIN)/python -m benchmarks figures --out .

newcomer: $(STAMP)
	$(BIN)/python -m benchmarks newcomer

# What the wheel ships is poincare_taxa/page/page.js; CI compares it with what this builds.
page:
	cd web && npm ci --silent --no-audit --no-fund && npm run --silent lint && npm test --silent && npm run --silent build

mutate: $(STAMP)
	$(BIN)/python -m benchmarks mutate --out .

# The sdist, and the wheel that is built from it: what is tested is what a user builds.
wheel: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --outdir dist > /dev/null

clean:
	rm -rf $(VENV) demo dist build docs/_build docs/jupyter_execute

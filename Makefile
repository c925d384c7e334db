# `make demo` and `make test` set up what they need in .venv; nothing is installed twice.
# Another source of PyTorch, e.g. its CPU builds: make test PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_EXTRA ?=
TORCH ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo chromium test test-all test-versions lint docs bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11'; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_EXTRA) 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_EXTRA) --editable . --group dev
	@touch $(READY)

demo: $(READY)
	$(BIN)/dpl fit digits --shots 16 --seed 1 --out runs/demo --overwrite

# The tests look at the pages in Chromium; without it they say loudly what they skip.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
				|| echo 'Chromium could not be installed: the tests of pages in a browser will be skipped'; \
		else \
			echo 'No Chromium: the tests of pages in a browser will be skipped. To run them: sudo apt-get install chromium'; \
		fi; }

test: $(READY) chromium
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# The slow tests too: runs killed at many moments, every method and data set where `make test` has one of each kind.
test-all: $(READY) chromium
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m 'slow or not slow' --hypothesis-profile thorough

# The lowest and the newest transformers and torch; for another torch, see .ci/versions: make test-versions TORCH=torch==2.10.0
test-versions:
	PYTHON='$(PYTHON)' PIP_EXTRA='$(PIP_EXTRA)' TORCH='$(TORCH)' .ci/versions lowest
	PYTHON='$(PYTHON)' PIP_EXTRA='$(PIP_EXTRA)' TORCH='$(TORCH)' .ci/versions newest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The site; the tutorials run while it is built.
docs: $(READY)
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --jobs 2 --quiet --builder html docs build/docs
	@echo 'The site is in build/docs: open build/docs/index.html'

bench: $(READY)
	$(BIN)/python -m benchmarks step

clean:
	rm -rf .venv runs build .pytest_cache .ruff_cache .hypothesis

# `make demo` and `make test` set up what they need in .venv; nothing is installed twice.
# Another source of PyTorch, e.g. its CPU builds: make test PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_EXTRA ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo chromium test lint bench clean

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

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/python -m benchmarks step

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .hypothesis

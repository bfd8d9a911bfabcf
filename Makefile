# Two commands do everything on a machine with Python 3.11 to 3.13 and PyPI: `make demo` and `make test`.
# A command that does not run is none: those of pyenv exist for versions that are not chosen.
PYTHON ?= $(shell python3.11 -c 'import sys; print(sys.executable)' 2>/dev/null || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
# Tests run in so many processes, a file in one of them.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
# Synthesised speech and everything that the demo makes of it.
DEMO ?= work/demo

.PHONY: demo check test lint reliability smoke matrix clean

demo: $(VENV)/demo.stamp
	$(BIN)/python training/synthesise_speech.py --out $(DEMO)/speech
	$(BIN)/tfkd run configs/demo.yaml --set data_dir=$(DEMO)/speech --set work_dir=$(DEMO)

# What a change is checked with while it is made: all but the slow tests.
check: lint
	$(PYTEST) -m "not slow"

test: lint
	$(PYTEST)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests of `make test` that kill, damage and fuzz, with their full counts: 79 minutes on two
# cores that had other work to do (docs/reliability/results.json).
reliability: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/reliability tests/fuzz --timeout 0 \
		--full docs/reliability/results.json

# One other Python that is on this machine reads what the main combination wrote: within 2 minutes,
# or it is left out.
smoke:
	$(PYTHON) packaging/smoke.py

# What each Python with its TensorFlow writes is read under each other one that is on this machine.
matrix:
	$(PYTHON) packaging/matrix.py --out packaging/matrix.json

$(VENV)/%.stamp: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) work build *.egg-info

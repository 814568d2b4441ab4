# `make convert` and `make test` need Python 3.10 or newer, and nothing else that is not here.
# Everything is installed into .venv, in this folder.

PYTHON ?= python3
JOBS ?= 2
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo/20180402-demo
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt --editable

export CHECKPOINT OUT

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help convert convert-demo convert-given install test test-quick lint benchmark release docs notebooks clean same-python always

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | \
		awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'
	@echo
	@echo '  CHECKPOINT=… OUT=…  what to convert, and to what (default: a demo checkpoint)'
	@echo '  ARGS=…              more options, of convert, pytest or the benchmark'
	@echo '  PYTHON=…            which Python the environment is made with (default: python3)'
	@echo '  JOBS=…              how many tests run at a time (default: 2)'

convert: $(if $(CHECKPOINT),convert-given,convert-demo) ## Convert CHECKPOINT to OUT; with neither, a demo checkpoint

convert-demo: $(DEMO)/checkpoint
	@if [ -n '$(filter command line,$(origin OUT))' ]; then \
		echo 'Error: OUT is given but not CHECKPOINT: make convert CHECKPOINT=… OUT=…' >&2; exit 2; fi
	@echo 'This is a demo. Its weights are random: nobody trained them.'
	@$(BIN)/convert --checkpoint $(DEMO) --out $(DEMO).pt --overwrite
	@echo 'Your own: make convert CHECKPOINT=20180402-114759 OUT=vggface2.pt'

# Run again, it checks what is there instead of failing; it never replaces what differs.
convert-given: $(VENV)/.base
	@if [ -z "$$OUT" ]; then \
		echo 'Error: OUT is missing: make convert CHECKPOINT=… OUT=vggface2.pt' >&2; exit 2; fi
	@if [ -z '$(ARGS)' ] && [ -e "$$OUT" ] && [ -n "$$(ls -A "$$OUT")" ]; then \
		status=0; $(BIN)/facenet diff "$$CHECKPOINT" "$$OUT" || status=$$?; \
		if [ $$status -eq 0 ]; then echo "$$OUT holds these weights already, bit for bit"; fi; \
		if [ $$status -eq 1 ]; then \
			echo "Error: $$OUT exists, and it is not shown to hold these weights; ARGS=--overwrite replaces it" >&2; fi; \
		exit $$status; \
	else $(BIN)/convert --checkpoint "$$CHECKPOINT" --out "$$OUT" $(ARGS); fi

$(DEMO)/checkpoint: converter/demo.py | $(VENV)/.base
	@mkdir -p $(dir $(DEMO))
	@$(BIN)/python -m converter.demo $(DEMO) --overwrite

test: lint ## Check style and types, and run the tests
	@if [ ! -d "$$FACENET_REFERENCE_DIR" ]; then \
		echo 'Note: FACENET_REFERENCE_DIR names no folder: tests against reference data are skipped'; fi
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-quick: $(VENV)/.dev ## Run the tests that need no TensorFlow, no server and no long process
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'not slow' $(ARGS)

install: $(VENV)/.dev ## Install everything that the commands and the tests need

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

release: $(VENV)/.dev ## Build the release of release.toml into OUT (default: dist), or go on with it
	$(BIN)/facenet release build release.toml --out $(or $(OUT),dist) $(ARGS)

notebooks: $(VENV)/.dev ## Run the notebooks of examples/, and render them to rendered/
	$(BIN)/python examples/render.py --html $(ARGS)

docs: $(VENV)/.dev ## Build the documentation into site/
	$(BIN)/python -m mkdocs build --strict $(ARGS)

benchmark: $(VENV)/.dev ## Measure the converter's speed and memory
	$(BIN)/python benchmarks/convert.py $(ARGS)

clean: ## Remove the environment, the demo, the site and every cache; a release in dist stays
	rm -rf $(VENV) $(DEMO) $(DEMO).pt build site rendered .mypy_cache .pytest_cache .ruff_cache .hypothesis
	if [ -d demo ]; then rmdir demo || true; fi
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: each step leaves a stamp, and is done again when what it stands on changes

$(VENV)/.made: | same-python
	@command -v "$(PYTHON)" >/dev/null || { \
		echo 'Error: there is no "$(PYTHON)": install Python 3.10 or newer' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Error: $$("$(PYTHON)" --version 2>&1) is too old, 3.10 or newer is needed:" \
			"give it by name, as in PYTHON=python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'Error: this Python lacks venv or pip; on Debian and Ubuntu: apt install python3-venv' >&2; \
		exit 1; }
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

same-python:
ifneq ($(origin PYTHON),file)
	@if [ -e $(VENV)/.made ] && [ "$$("$(PYTHON)" --version)" != "$$($(BIN)/python --version)" ]; then \
		echo "Error: $(VENV) is made with $$($(BIN)/python --version); for $(PYTHON): make clean" >&2; \
		exit 1; fi
endif

# Where this folder lies: an installation in editable mode must be done again when it has moved.
$(VENV)/.here: always | $(VENV)/.made
	@[ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] || echo "$(CURDIR)" >$@

$(VENV)/.base: pyproject.toml constraints.txt $(VENV)/.here
	@echo 'Installing facenet-parity into $(VENV) …'
	@$(INSTALL) .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.here
	@echo 'Installing facenet-parity into $(VENV), with TensorFlow and PyTorch (1 GB the first time) …'
	@$(INSTALL) '.[dev]'
	@touch $(VENV)/.base $@

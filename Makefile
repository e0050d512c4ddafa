# Every target sets up .venv by itself on first use. RUN=... passes arguments on, as in `make report RUN=records=results/reference/x`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN ?=
PINS := $(if $(LOCKED),--require-hashes --no-deps -r requirements.lock,-r requirements.txt)

# An extra of pyproject.toml, by the package that it pins.
EXTRA = $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '$(1)==[0-9.]*' pyproject.toml)"

.DEFAULT_GOAL := help
.PHONY: help setup bench test test-all test-page speed check check-fast lint report tables figures claims docs data lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## set up .venv with the pinned dependencies

# torch first: the CPU build of the same version, where pip is pointed at one, satisfies everything after it.
$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "cnf-ot-bench needs Python 3.11 to 3.13, not %d.%d: try make PYTHON=python3.11" % sys.version_info[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "setting up $(VENV), which takes about two minutes: 1 of 2, torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	@echo "setting up $(VENV): 2 of 2, the other $$(grep '==' requirements.txt | grep -vc '^torch==') packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS)
	@touch $@

bench: $(READY) ## run suite=quick, print the table, write results/report/
	@$(BIN)/python -m bench.run -m suite=quick $(RUN); ran=$$?; \
	 $(BIN)/python -m bench.report records=results/runs && exit $$ran

test: $(READY) ## the fast tests, two at a time
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(READY) ## the slow tests too
	@$(BIN)/python -m pytest -m ""

test-page: $(READY) ## the tests of the report's page in a browser: Chromium or Chrome on the path (installs playwright)
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit; done; \
	 echo "no chromium, chromium-browser or google-chrome on the path" >&2; exit 2
	@$(call EXTRA,playwright)
	@told=$$($(BIN)/python -m pytest -m "" -rs tests/bench/test_page.py); ended=$$?; printf '%s\n' "$$told"; \
	 if printf '%s\n' "$$told" | grep -q SKIPPED; then echo "a test was skipped: none may be here" >&2; exit 1; fi; exit $$ended

speed: $(READY) ## time training steps and inference against their matrix products (RUN='-k toy' for some)
	@mkdir -p results/speed
	@$(BIN)/python -m pytest tests/speed --benchmark-only --benchmark-quiet --benchmark-json=results/speed/latest.json $(RUN)
	@$(BIN)/python -m bench.yardstick results/speed/latest.json

check: $(READY) ## is a step slower, or more work, than before? Against another commit (RUN='--against REV') and what is committed
	@$(BIN)/python -m bench.check $(RUN)

check-fast: $(READY) ## the part of check that needs no other commit: exact work counters, and the floors of the speed-ups
	@$(BIN)/python -m bench.check --counters --floors

lint: $(READY) ## ruff and mypy
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

report: $(READY) ## records to tables, figures and results/report/index.html; renews the tables that README.md and docs/ quote
	@$(BIN)/python -m bench.report $(RUN)
	@$(BIN)/python -m bench.report.readme

tables: $(READY) ## the tables of the report alone
	@$(BIN)/python -m bench.report only=tables $(RUN)

figures: $(READY) ## the figures of the report alone
	@$(BIN)/python -m bench.report only=figures $(RUN)

claims: $(READY) ## the published claims against the records: published, measured, verdict
	@$(BIN)/python -m bench.claims $(RUN)

docs: $(READY) ## the documentation as a site, results/site/index.html (installs mkdocs-material)
	@$(call EXTRA,mkdocs-material)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

data: $(READY) ## fetch the five standard tabular sets and MNIST (RUN=power for one)
	@$(BIN)/python -m datasets.download $(or $(RUN),all)

lock: $(READY) ## write requirements.lock anew after a change of requirements.txt (needs uv)
	@grep -v "^torch==" requirements.txt | uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate --universal --python-version 3.11 - -o requirements.new
	@{ head -1 requirements.lock; cat requirements.new; } > requirements.lock.new && rm requirements.new && mv requirements.lock.new requirements.lock

clean: ## remove what was made, but not results/runs
	rm -rf $(VENV) results/report results/.sweep .pytest_cache .ruff_cache .mypy_cache .hypothesis

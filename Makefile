# make help lists what there is. Everything happens in .venv; nothing is installed outside it but by system-deps.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CONSTRAINTS := constraints/python$(VERSION).txt
READY := $(VENV)/.ready
ARGS ?=

.PHONY: help install demo test test-fast check system-deps docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(READY)  ## make .venv with everything in it, at pinned versions

$(READY): setup.cfg pyproject.toml $(wildcard constraints/*.txt)
	@test -n "$(VERSION)" || { echo "make: no $(PYTHON) found; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -f $(CONSTRAINTS) || { echo "make: no pins for Python $(VERSION) ($(CONSTRAINTS)); use make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[all]'
	@touch $@

demo: $(READY)  ## from a folder of images to a drift alert; ARGS="--once" ends by itself
	$(BIN)/lineside demo $(ARGS)

test: $(READY)  ## all tests, on every core; those whose system programs are missing are skipped and listed by name
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope $(ARGS)

test-fast: $(READY)  ## the tests without TensorFlow, brokers and browsers
	$(BIN)/python -m pytest -m "not slow and not broker and not browser and not postgres and not arm" $(ARGS)

check: $(READY)  ## lint, format, types, import contracts, README
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/python -m pytest -q tests/test_readme.py tests/test_docs.py -m "not slow"

docs: $(READY)  ## write the command reference anew
	$(BIN)/python docs/generate_cli.py

system-deps:  ## install Mosquitto, PostgreSQL, Chromium and QEMU with apt
	@SUDO=$$(test "$$(id -u)" = 0 || echo sudo); \
	$$SUDO apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends \
		mosquitto postgresql chromium qemu-user-static

clean:  ## remove what the targets made, .venv included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo runs

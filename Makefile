# One door for people and for CI. `make` lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up down logs run test check format bench toolchain base-image environment images lock certs clean

PYTHON ?= python3
BUDGET ?= default
venv := .venv/bin
forget_old_images := docker image prune --force \
  --filter label=com.docker.compose.project=callboard >/dev/null

help:  ## this list
	@echo "Callboard: make TARGET"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | \
	  while IFS=$$'\t' read -r target text; do printf '  %-12s %s\n' "$$target" "$$text"; done

up: engine toolchain environment  ## start the stack in containers; ends with what to try
	@echo "== building the images"
	@docker compose build
	@$(forget_old_images)
	@echo "== starting"
	@docker compose up --detach --wait --wait-timeout 120 --remove-orphans || \
	  { docker compose logs --tail 20; exit 1; }
	@cat make/what-to-try.txt
	@$(PYTHON) make/trust.py

down:  ## stop it; the catalog stays in its volumes
	@docker compose --profile '*' down --remove-orphans

logs:  ## what the containers say, followed
	@docker compose logs --follow --tail 100

run: .venv/.made  ## the same programs as local processes, in the foreground, without an engine
	@PYTHONPATH=. $(venv)/python -m make.run

test:  ## everything that is tested; BUDGET=ci: images anew, both drivers, no skipped test
	@BUDGET=$(BUDGET) PYTHON=$(PYTHON) make/test.sh

check: .venv/.made  ## format, lint, types and the repository's own rules
	@echo "== ruff format"; $(venv)/ruff format --check -q .
	@echo "== ruff"; $(venv)/ruff check -q .
	@echo "== mypy"; $(venv)/mypy --strict libs services tests make
	@echo "== tidy"; $(venv)/pytest -q tests/tidy

format: .venv/.made  ## rewrite the code as ruff wants it
	@$(venv)/ruff format .
	@$(venv)/ruff check --fix .

bench: .venv/.made  ## the benchmarks, each with its peer beside it
	@set -- benchmarks/[a-z]*.py; test -e "$$1" || { echo "no benchmarks yet"; exit 1; }; \
	  missed=0; for one in "$$@"; do \
	    echo "== $$one"; PYTHONPATH=. $(venv)/python "$$one" || missed=1; done; exit $$missed

images: engine toolchain environment  ## build the images
	@docker compose build
	@$(forget_old_images)

base-image: engine  ## make the base image from Debian's packages (root, Debian)
	@make/base-image.sh

lock: .venv/.made  ## write constraints*.txt anew (UPGRADE=1: with newer versions)
	@make/lock.sh $(if $(UPGRADE),--upgrade)

certs: .venv/.made  ## a CA and a certificate for localhost in certs/out (PUBLIC_HOST=… adds a name)
	@PYTHONPATH=. PUBLIC_HOST="$(PUBLIC_HOST)" $(venv)/python -m make.certs

clean:  ## remove what make has made: containers, volumes, images, certs/out, .venv, run/, .env …
	@if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then \
	  docker compose --profile '*' down --volumes --remove-orphans --rmi all; \
	  docker image rm callboard/base:trixie >/dev/null 2>&1 || true; $(forget_old_images); fi
	rm -rf .venv .build .env run dist certs/out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

toolchain:  ## see that docker compose and buildx answer; on Debian, as root, install them
	@make/toolchain.sh

environment: engine  ## write .env: base image, CA bundle for builds, subnet
	@$(PYTHON) make/environment.py

.PHONY: engine
engine:
	@command -v docker >/dev/null && docker info >/dev/null 2>&1 || { \
	  echo "No container engine answers (docker info). Without one: make run" >&2; exit 1; }

.venv/.made: pyproject.toml constraints.txt
	@make/venv.sh $(PYTHON)

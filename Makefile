# A fresh machine with Python (3.11 or newer), git and make needs two commands: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What works with the database; on PostgreSQL a connection of an app that a test drops is no failure.
STORE_TESTS := accept anchor approval attestations audit_cli backup bound_seals change_store encryption_keys episode health \
  migrations month_lock \
  budgets pages reading_jobs reconciliation renewal resealing retention store time_log trail_of_charges

# What was compiled is kept, whatever the environment says: else every process of a test compiles the app anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo demo-check test test-bench test-browser test-days test-postgresql interop interop-servers strangers deploy-check lock lint docs pictures bench oracle population mutate mutate-changed fuzz faults sbom audit clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(READY) ## Make .venv with the app and its development tools

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; point PYTHON at one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## Start the sandbox EHR and the app, and print the address to open
	$(BIN)/smartapp demo

demo-check: $(READY) ## Drive the whole way headless: launch, read, accept, find the charge in the EHR
	$(BIN)/smartapp demo --check

test: $(READY) ## Run every test that needs nothing but Python
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not bench and not days and not interop and not browser"

test-bench: $(READY) ## That every bench runs, and what takes seconds by its amount of data
	$(BIN)/python -m pytest -n 2 -q -m bench tests/test_bench.py tests/launch/sandbox/test_search.py

test-browser: $(READY) ## The pages in a real browser: in the EHR's frame, by keyboard, with axe (needs Debian's chromium)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m browser

test-days: $(READY) ## The whole way and demo-check on new year, leap days, changes of the clocks, noon and near midnight
	$(BIN)/python -m pytest -n 2 -q -m days tests/smartapp/test_days.py

test-postgresql: $(READY) ## What works with the database, on a PostgreSQL server of its own (needs Debian's postgresql)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[postgresql]'
	TEST_DATABASE=postgresql $(BIN)/python -m pytest -n 2 -q -m "not browser and not days" \
	  -W "ignore::pytest.PytestUnraisableExceptionWarning" $(STORE_TESTS:%=tests/smartapp/test_%.py)

interop: $(READY) interop-servers ## Hold the app against HAPI FHIR, Medplum, two SMART implementations and Spark (Node.js 20, Java 17, Maven)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[spark]'
	$(BIN)/python -m pytest -q tests/interop -m interop

strangers: $(READY) tests/interop/node_modules/.package-lock.json ## The two SMART implementations alone (Node.js 20)
	$(BIN)/python -m pytest -q tests/interop/test_strangers.py

interop-servers: build/interop/hapi/classes/HapiR4.class tests/interop/node_modules/.package-lock.json

build/interop/hapi/classes/HapiR4.class: tests/interop/hapi/pom.xml tests/interop/hapi/HapiR4.java
	mvn -q -B -f tests/interop/hapi/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/build/interop/hapi/lib
	javac -nowarn -cp 'build/interop/hapi/lib/*' -d build/interop/hapi/classes tests/interop/hapi/HapiR4.java

tests/interop/node_modules/.package-lock.json: tests/interop/package-lock.json
	npm ci --prefix tests/interop --silent

deploy-check: ## Install as the Containerfile does, run as another user from an empty folder, read-only; try the proxy's configuration
	deploy/check

LOCK = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --upgrade \
  --custom-compile-command "make lock"

lock: $(READY) ## Choose the newest versions within pyproject.toml's ranges, and pin them with their hashes (asks the registry)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lock]'
	$(LOCK) --extra postgresql --output-file requirements.lock pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	  $(LOCK) --no-annotate --output-file requirements-build.lock -

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY) ## Make docs/rules.md anew from the tables, docs/conformance.md from the marks of the tests, the contract's schema, the pages
	$(BIN)/smartapp rules --markdown > docs/rules.md
	$(BIN)/python -m fhir_mappings.contract > docs/reference/contract.schema.json
	$(BIN)/python -m tests.conformance
	$(BIN)/python -m tests.pages

pictures: $(READY) ## Make docs/pictures/ anew from the demo on a fixed day (needs Debian's chromium); then look at each
	$(BIN)/python -m tests.pictures

bench: $(READY) ## Measure, as ratios in one run
	$(BIN)/python -m bench

oracle: $(READY) ## Hold the rules against their independent oracle on 20,000 random charts
	ORACLE_EXAMPLES=20000 $(BIN)/python -m pytest -n 2 -q tests/test_oracle.py

population: $(READY) ## Sweep populations of 2,000 random charts, night after night, killed at 80 moments
	POPULATION_CHARTS=2000 POPULATION_KILLS=80 $(BIN)/python -m pytest -n 2 -q tests/smartapp/test_sweep.py tests/smartapp/test_due.py

mutate: $(READY) ## Try whether the tests notice one wrong thing in the rules or their tables (docs/quality.md)
	$(BIN)/python -m tests.mutation

mutate-changed: $(READY) ## The same for files that changed since it was last measured, six minutes
	$(BIN)/python -m tests.mutation --changed-since recorded --minutes 6

fuzz: $(READY) ## Spoil charts and answers for a long while: every parser of outside bytes
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -q tests/fhir_mappings/test_outside_bytes.py tests/launch/test_outside_bytes.py \
	  tests/smartapp/test_doctor_outside_bytes.py

faults: $(READY) ## A thousand random sequences of cuts, delays and kills around each way a charge leaves
	$(BIN)/python -m tests.support.fault_run --sequences 1000

build/shipped/.ready: pyproject.toml requirements.lock requirements-build.lock deploy/install
	rm -rf build/shipped
	PYTHON=$(PYTHON) deploy/install . build/shipped
	@touch $@

sbom: $(READY) build/shipped/.ready ## Write build/sbom.json: everything the app is shipped with, as locked (CycloneDX)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[audit]'
	$(BIN)/cyclonedx-py environment build/shipped/bin/python --pyproject pyproject.toml --output-file build/sbom.json
	@$(PYTHON) -c 'import json; print(len(json.load(open("build/sbom.json"))["components"]), "components in build/sbom.json")'

audit: $(READY) build/shipped/.ready ## Ask the public advisories about everything shipped (needs the internet)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[audit]'
	$(BIN)/pip-audit --strict --path build/shipped/lib/python3*/site-packages --skip-editable

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .mutation

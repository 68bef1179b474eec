# Development and operation tasks. Recipes are POSIX sh.
SHELL = /bin/sh
VENV = .venv
PY = $(VENV)/bin/python
MANAGE = $(PY) manage.py
LOCK = $(VENV)/bin/uv pip compile -q --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
MIN_COVERAGE = 93

# Settings for the embedded databases, ignoring .env and the shell's variables, NAME and NAME_FILE: a demo must not replace the data of a
# real shop. Without LC_ALL, [A-Z] misses DWH_URL where Z comes before T (Estonian). `make demo VAR_DIR=/tmp/demo` is heeded.
QUOTE = '$(subst ','\'',$(1))'
EMBEDDED = unset $$(LC_ALL=C sed -n 's/^\#\([A-Z_]*\)=.*/\1 \1_FILE/p' .env.example) && \
	export ENV_FILE=/dev/null $(if $(filter command line,$(origin VAR_DIR)),VAR_DIR=$(call QUOTE,$(VAR_DIR)))

# For tests and checks, which must not see your settings or your var/ either.
ALONE = folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM HUP PIPE && \
	$(EMBEDDED) && export VAR_DIR="$$folder" COVERAGE_FILE="$$folder/coverage"

.PHONY: help setup setup-dev demo run test test-fast bad fuzz drill soak test-airflow bench screenshots check audit sbom format docs messages lock pin-images clean start stop restart logs ps ping data backup restore adminer k8s-deploy k8s-clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## create the virtual environment to run TechMarket
	@VENV="$(VENV)" sh deploy/setup.sh

setup-dev: ## create the virtual environment to develop TechMarket
	@VENV="$(VENV)" sh deploy/setup.sh dev

demo: setup ## generate a demo shop, run a full and an incremental load, and print the KPIs (in var/, ignoring your settings)
	@$(EMBEDDED) && set -x && \
	$(MANAGE) migrate_all && \
	$(MANAGE) generate_data --replace && \
	$(MANAGE) run_etl --mode full && \
	$(MANAGE) generate_data --changes 40 && \
	$(MANAGE) run_etl && \
	$(MANAGE) kpis

run: setup ## run web, worker and beat together with one log; Ctrl-C stops them
	$(MANAGE) migrate_all
	@PATH="$$(cd "$(VENV)/bin" && pwd):$$PATH" PYTHONUNBUFFERED=1 exec $(VENV)/bin/honcho --procfile deploy/Procfile --app-root . start

# One worker more than cores, since a tenth of the time a test waits: 6:00 instead of 6:46 on two cores. A tier is a marker: unit, database,
# process, browser, deploy (tests/conftest.py). Code 5: no test of it needs servers.
T =
PYTEST = -m pytest -n $$(($$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) + 1)) --maxprocesses 8 --dist worksteal

test: setup-dev ## run all tests on SQLite, then those that need servers on MariaDB (or MySQL), PostgreSQL and Redis, with coverage (T=browser: one tier)
	@$(ALONE) || exit 1; status=0; began=$$(date +%s); \
	echo "== tests on SQLite"; \
	$(PY) -m coverage run $(PYTEST) $(if $(T),-m "$(T)") || status=1; \
	echo "== tests on servers"; \
	$(PY) tests/servers.py -- $(PY) -m coverage run $(PYTEST) -m "$(if $(T),($(T)) and )not once" || [ $$? = 5 ] || status=1; \
	echo "== coverage"; \
	$(PY) -m coverage combine -q "$$folder" && $(PY) -m coverage report $(if $(T),,--fail-under=$(MIN_COVERAGE)) --skip-covered || status=1; \
	[ $$status = 0 ] || echo "make test: FAILED" >&2; \
	took=$$(($$(date +%s) - began)); echo "make test: $$((took / 60)) min $$((took % 60)) s"; \
	exit $$status

test-fast: setup-dev ## run the tests that start no program, on SQLite only (T=process: another tier)
	@$(ALONE) || exit 1; began=$$(date +%s); status=0; \
	$(PY) $(PYTEST) -m "$(or $(T),unit or database)" || status=1; \
	took=$$(($$(date +%s) - began)); echo "make test-fast: $$((took / 60)) min $$((took % 60)) s"; \
	exit $$status

bad: setup-dev ## try hundreds of bad inputs and environments and print what, where, exit code and sentence of each refusal
	@$(ALONE) || exit 1; $(PY) -m tests.refusals

INPUTS = 10000

fuzz: setup-dev ## give each parser of outside text 10 000 random inputs, on SQLite; takes an hour or two (INPUTS=1000 T=tests/fuzz/test_logs.py)
	@$(ALONE) || exit 1; INPUTS=$(INPUTS) $(PY) $(PYTEST) $(or $(T),tests/fuzz)

drill: setup-dev ## kill, pause, duplicate and disconnect workers on servers, change passwords, and check the recovery (DRILL="kill --times 10" for one drill)
	@$(ALONE) || exit 1; $(PY) tests/servers.py -- $(PY) -m tests.drills $(DRILL)

HISTORIES = 10000
SEED = 0

soak: setup-dev ## replay 10 000 random histories of a shop on servers, with runs in between; takes hours (HISTORIES=500 SEED=7)
	@$(ALONE) || exit 1; \
	HISTORIES=$(HISTORIES) HISTORIES_SEED=$(SEED) HISTORIES_SHRINK=1 $(PY) tests/servers.py -- $(PY) $(PYTEST) tests/histories

test-airflow: setup-dev ## run the DAGs of deploy/airflow in Airflow, installed in your cache folder: success, failure, skipped
	@$(ALONE) || exit 1; $(PY) tests/airflow/run.py

bench: setup-dev ## compare loads with a minimal copy and common tools in 30 to 100 minutes (BENCH=--quick, --scale, "--workers 1,2,4", --lock, --help)
	@$(ALONE) || exit 1; $(PY) tests/servers.py --as-in-production -- $(PY) -m tests.bench $(BENCH)

screenshots: setup-dev ## take screenshots of a demo shop into docs/images/: both languages and themes, desktop and phone
	@$(ALONE) || exit 1; $(PY) tests/screenshots.py

check: setup-dev ## check format, lint, types, layers, Django's system checks, migrations and the files generated from the models
	@$(ALONE) || exit 1; step() { echo "== $$*"; "$(VENV)/bin/$$@"; }; \
	step ruff format --check . && \
	step ruff check . && \
	step mypy && \
	step lint-imports && \
	step python manage.py check && \
	step python manage.py makemigrations --check --dry-run && \
	step python manage.py export_schema --check && \
	export DEBUG=false ALLOWED_HOSTS=etl.example.com SECRET_KEY="$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(48))')" && \
	step python manage.py check --deploy --fail-level WARNING

AUDIT =

audit: setup-dev ## look for advisories, weaknesses in the code, broken rules of images and manifests, unpinned images and licenses (AUDIT=licenses: one part)
	@$(ALONE) || exit 1; $(PY) -m tests.supply $(AUDIT)

sbom: setup-dev ## write what TechMarket runs on as a CycloneDX SBOM into var/sbom.json, which an image built afterwards carries
	@$(PY) -m tests.supply.sbom

format: setup-dev ## format the code and fix lint
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

docs: setup-dev ## build the documentation as a searchable site in var/site, in both languages; a broken link fails
	@$(PY) deploy/docs/build.py

messages: setup-dev ## update the translation catalogs, .po and .mo (needs xgettext from Debian's package gettext)
	@$(ALONE) || exit 1; $(MANAGE) makemessages -l uk --no-wrap --add-location file -i tests -i docs -i var -i .venv && \
	for words in techmarket apps/*; do \
		catalog=$$words/locale/uk/LC_MESSAGES/django; \
		[ ! -f $$catalog.po ] || $(VENV)/bin/pybabel -q compile -i $$catalog.po -o $$catalog.mo || exit 1; \
	done

lock: setup-dev ## compile requirements*.in into requirements*.txt with hashes
	$(LOCK) -o requirements.txt requirements.in
	$(LOCK) -o requirements-dev.txt requirements-dev.in
	$(LOCK) -o deploy/airflow/requirements.txt deploy/airflow/requirements.in

PIN =

pin-images: setup ## write the digests of container images into Dockerfiles, Compose files and manifests (PIN=--dry-run, --check, "--mirror URL")
	@$(PY) deploy/pin_images.py $(PIN)

clean: ## delete var/ (the embedded databases) and caches; keep .venv
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# --- Docker Compose ---
COMPOSE = sh deploy/compose.sh
PROFILES =
export COMPOSE_PROFILES = $(PROFILES)

start: ## build and start the stack: databases, Redis, web, worker, beat (PROFILES=bi,monitoring,tools adds more)
	@$(COMPOSE) up -d --build
	@echo "http://127.0.0.1:$${WEB_PORT:-8000}  (make data: a demo shop, make ping: check every part, make logs)"

stop: ## stop the stack; keep its data
	@COMPOSE_PROFILES=bi,monitoring,tools $(COMPOSE) down

restart: ## restart the stack, or one service: SERVICE=worker
	@$(COMPOSE) restart $(SERVICE)

logs: ## follow the logs of the stack, or of one service: SERVICE=worker
	@$(COMPOSE) logs -f --tail 100 $(SERVICE)

ps: ## list the containers and their health
	@$(COMPOSE) ps

ping: ## check that every database, the broker, workers and beat of the stack answer
	@$(COMPOSE) exec -T worker python manage.py ping

data: ## generate a demo shop in the stack's four sources (ARGS="--orders 100000 --replace")
	@$(COMPOSE) run --rm migrate manage generate_data $(ARGS)

backup: ## back up every database of the stack into the volume backups (ARGS=--verify, and IDENTITY=key.txt if BACKUP_RECIPIENT is set)
	@$(COMPOSE) run --rm$(if $(IDENTITY), -T) migrate manage backup $(ARGS)$(if $(IDENTITY), --identity - <$(call QUOTE,$(IDENTITY)))

restore: ## restore a backup into the stack's empty databases (ARGS=2026-01-31T02-00-00, IDENTITY=key.txt if it is encrypted, ARGS=--list)
	@$(COMPOSE) run --rm$(if $(IDENTITY), -T) migrate manage restore $(ARGS)$(if $(IDENTITY), --identity - <$(call QUOTE,$(IDENTITY)))

adminer: ## start Adminer, to browse the databases
	@$(COMPOSE) up -d adminer
	@echo "http://127.0.0.1:$${ADMINER_PORT:-8080}  (users and servers: docs/DATABASES.md)"

# --- Kubernetes ---
OVERLAY = dev

k8s-deploy: ## apply k8s/overlays/dev, or OVERLAY=production, and wait for the rollout
	@command -v kubectl >/dev/null || { echo "make k8s-deploy: kubectl is not installed" >&2; exit 1; }
	kubectl delete job migrate --namespace techmarket --ignore-not-found
	kubectl apply -k k8s/overlays/$(OVERLAY)
	kubectl wait --namespace techmarket --for=condition=complete job/migrate --timeout=10m
	kubectl rollout status --namespace techmarket deployment/web --timeout=5m
	kubectl rollout status --namespace techmarket deployment/worker --timeout=5m
	kubectl rollout status --namespace techmarket deployment/beat --timeout=5m

k8s-clean: ## delete the namespace techmarket with all its data (CONFIRM=yes)
	@command -v kubectl >/dev/null || { echo "make k8s-clean: kubectl is not installed" >&2; exit 1; }
	@[ "$(CONFIRM)" = yes ] || { echo "make k8s-clean: this deletes the databases too; run it with CONFIRM=yes" >&2; exit 1; }
	kubectl delete namespace techmarket

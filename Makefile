# What you do here, in one word each. Recipes are plain sh.
VENV = .venv
PY = $(VENV)/bin/python
MANAGE = $(PY) manage.py
LOCK = $(VENV)/bin/uv pip compile -q --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
MIN_COVERAGE = 93

# The embedded default, whatever your .env and your shell name: a demo must not empty a real shop.
EMBEDDED = unset $$(sed -n 's/^\#\([A-Z_]*\)=.*/\1/p' .env.example) && export ENV_FILE=/dev/null

# Tests and checks see none of your settings either, nor your var/.
ALONE = folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM HUP PIPE && \
	$(EMBEDDED) && export VAR_DIR="$$folder" COVERAGE_FILE="$$folder/coverage"

.PHONY: help setup setup-dev demo run test test-fast drill test-airflow bench screenshots check format docs messages lock clean start stop restart logs ps ping data backup restore adminer k8s-deploy k8s-clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## the virtual environment, to run TechMarket
	@VENV=$(VENV) sh deploy/setup.sh

setup-dev: ## the virtual environment, to work on TechMarket
	@VENV=$(VENV) sh deploy/setup.sh dev

demo: setup ## a demo shop, a full run, a day of changes, an incremental run, and what came of it (in var/, whatever your settings name)
	@$(EMBEDDED) && set -x && \
	$(MANAGE) migrate_all && \
	$(MANAGE) generate_data --replace && \
	$(MANAGE) run_etl --mode full && \
	$(MANAGE) generate_data --changes 40 && \
	$(MANAGE) run_etl && \
	$(MANAGE) kpis

run: setup ## web, worker and beat together, one log; Ctrl-C stops them
	$(MANAGE) migrate_all
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONUNBUFFERED=1 exec $(VENV)/bin/honcho --procfile deploy/Procfile --app-root . start

# One worker for each core; a tier is a marker: unit, database, process, browser, deploy (tests/conftest.py). Code 5: none of its tests asks servers.
T =
PYTEST = -m pytest -n logical --maxprocesses 8 --dist worksteal

test: setup-dev ## every test on SQLite, and on MariaDB (or MySQL), PostgreSQL and Redis what asks them, and the coverage of both (T=browser for one tier)
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

test-fast: setup-dev ## what takes no browser and no other program's files, on SQLite alone, in three minutes
	@$(ALONE) || exit 1; began=$$(date +%s); status=0; \
	$(PY) $(PYTEST) -m "$(or $(T),not browser and not deploy)" || status=1; \
	took=$$(($$(date +%s) - began)); echo "make test-fast: $$((took / 60)) min $$((took % 60)) s"; \
	exit $$status

drill: setup-dev ## workers killed, stopped, doubled and cut off, on servers: what is promised of that (DRILL="kill --times 10" for one)
	@$(ALONE) || exit 1; $(PY) tests/servers.py -- $(PY) -m tests.drills $(DRILL)

test-airflow: setup-dev ## the DAGs of deploy/airflow in real Airflow, in a virtual environment of its own in your cache folder: green, red, skipped
	@$(ALONE) || exit 1; $(PY) tests/airflow/run.py

bench: setup-dev ## what a load costs beside the floor, pandas and dlt; half an hour (BENCH=--quick, --scale, "--workers 1,2")
	@$(ALONE) || exit 1; $(PY) tests/servers.py --as-in-production -- $(PY) -m tests.bench $(BENCH)

screenshots: setup-dev ## pictures of the pages in docs/images/: of a demo shop, in both languages and themes, on a desktop and a phone
	@$(ALONE) || exit 1; $(PY) tests/screenshots.py

check: setup-dev ## the gate: format, lint, types, layers, Django's checks, migrations, and what is made from the models
	@$(ALONE) || exit 1; step() { echo "== $$*"; "$(VENV)/bin/$$@"; }; \
	step ruff format --check . && \
	step ruff check . && \
	step mypy && \
	step lint-imports && \
	step python manage.py check && \
	step python manage.py makemigrations --check --dry-run && \
	step python manage.py export_schema --check

format: setup-dev ## rewrite the code the way the gate wants it
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

docs: setup-dev ## the documentation as a searchable site in var/site, in both languages; a link that leads nowhere fails
	@$(PY) deploy/docs/build.py

messages: setup-dev ## the words of the pages into locale/uk/*.po (needs xgettext, of Debian's package gettext), and those into .mo
	@$(ALONE) || exit 1; $(MANAGE) makemessages -l uk --no-wrap --add-location file -i tests -i docs -i var -i .venv && \
	for words in techmarket apps/*; do \
		catalog=$$words/locale/uk/LC_MESSAGES/django; \
		[ ! -f $$catalog.po ] || $(VENV)/bin/pybabel -q compile -i $$catalog.po -o $$catalog.mo || exit 1; \
	done

lock: setup-dev ## requirements*.in into requirements*.txt, with hashes
	$(LOCK) -o requirements.txt requirements.in
	$(LOCK) -o requirements-dev.txt requirements-dev.in
	$(LOCK) -o deploy/airflow/requirements.txt deploy/airflow/requirements.in

clean: ## remove var/ (the embedded databases) and caches; .venv stays
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# --- The stack of docker-compose.yml ---
COMPOSE = sh deploy/compose.sh
PROFILES =
export COMPOSE_PROFILES = $(PROFILES)

start: ## the whole stack in containers: databases, Redis, web, worker, beat, Adminer (PROFILES=bi,monitoring for more)
	@$(COMPOSE) up -d --build
	@echo "http://127.0.0.1:$${WEB_PORT:-8000}  (make data for a demo shop, make ping to ask every part, make logs)"

stop: ## end the stack; its data stays
	@COMPOSE_PROFILES=bi,monitoring $(COMPOSE) down

restart: ## restart the stack, or one of it: SERVICE=worker
	@$(COMPOSE) restart $(SERVICE)

logs: ## follow the stack's log, or that of SERVICE=worker
	@$(COMPOSE) logs -f --tail 100 $(SERVICE)

ps: ## the stack's containers and their health
	@$(COMPOSE) ps

ping: ## ask every database, the broker, workers and beat of the stack
	@$(COMPOSE) exec -T worker python manage.py ping

data: ## a demo shop into the stack's four sources (ARGS="--orders 100000 --replace")
	@$(COMPOSE) run --rm migrate manage generate_data $(ARGS)

backup: ## every database of the stack into its volume backups (ARGS=--verify)
	@$(COMPOSE) run --rm migrate manage backup $(ARGS)

restore: ## a backup into the stack's empty databases (ARGS=2026-01-31T02-00-00)
	@$(COMPOSE) run --rm migrate manage restore $(ARGS)

adminer: ## Adminer, to look into the databases
	@$(COMPOSE) up -d adminer
	@echo "http://127.0.0.1:$${ADMINER_PORT:-8080}  (users and servers: docs/DATABASES.md)"

# --- Kubernetes ---
OVERLAY = dev

k8s-deploy: ## apply k8s/overlays/dev, or OVERLAY=production, and wait until it runs
	@command -v kubectl >/dev/null || { echo "make k8s-deploy: there is no kubectl here" >&2; exit 1; }
	-kubectl delete job migrate --namespace techmarket --ignore-not-found
	kubectl apply -k k8s/overlays/$(OVERLAY)
	kubectl wait --namespace techmarket --for=condition=complete job/migrate --timeout=10m
	kubectl rollout status --namespace techmarket deployment/web --timeout=5m

k8s-clean: ## delete the namespace techmarket and everything in it, its data too (CONFIRM=yes)
	@command -v kubectl >/dev/null || { echo "make k8s-clean: there is no kubectl here" >&2; exit 1; }
	@[ "$(CONFIRM)" = yes ] || { echo "make k8s-clean: this deletes the databases too; say CONFIRM=yes" >&2; exit 1; }
	kubectl delete namespace techmarket

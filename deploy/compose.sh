#!/bin/sh
# Compose, whichever is here: `sh deploy/compose.sh up -d`.
set -eu
cd "$(dirname "$0")/.."
if docker compose version >/dev/null 2>&1; then exec docker compose "$@"; fi
if command -v docker-compose >/dev/null; then exec docker-compose "$@"; fi
echo "compose: neither \`docker compose\` nor \`docker-compose\` is here; install one, or run without containers: make demo, make run" >&2
exit 1

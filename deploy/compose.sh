#!/bin/sh
# Run Docker Compose, as a plugin or as a program: `sh deploy/compose.sh up -d`.
set -eu
cd "$(dirname "$0")/.."
# The image is built without git, so the commit is passed in: 12 digits, with -dirty where files have changed.
if [ -z "${CODE_VERSION:-}" ] && [ -e .git ]; then
    CODE_VERSION=$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || :)
    export CODE_VERSION
fi
if docker compose version >/dev/null 2>&1; then exec docker compose "$@"; fi
if command -v docker-compose >/dev/null; then exec docker-compose "$@"; fi
echo "compose: neither \`docker compose\` nor \`docker-compose\` is installed; install one, or run without containers: make demo, make run" >&2
exit 1

#!/bin/sh
# Run Docker Compose, as a plugin or as a program: `sh deploy/compose.sh up -d`.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")/.."
# The image is built without git, so the commit is passed in: 12 digits, with -dirty where files have changed.
if [ -z "${CODE_VERSION:-}" ] && [ -e .git ]; then
    CODE_VERSION=$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || :)
    export CODE_VERSION
fi
# Compose names the project after the folder, and no character of a Cyrillic name remains.
case "${PWD##*/}" in
    *[A-Za-z0-9]*) ;;
    *) export COMPOSE_PROJECT_NAME="${COMPOSE_PROJECT_NAME:-techmarket}" ;;
esac
if docker compose version >/dev/null 2>&1; then set -- docker compose "$@"
elif command -v docker-compose >/dev/null; then set -- docker-compose "$@"
else
    echo "compose: neither \`docker compose\` nor \`docker-compose\` is installed; install one, or run without containers: make demo, make run" >&2
    exit 1
fi
# A clone under umask 077: the users of the containers could not read the files that Compose mounts, which hold no secret.
chmod -R go+rX deploy/mysql deploy/postgres deploy/redis deploy/prometheus deploy/grafana deploy/airflow 2>/dev/null ||
    echo "compose: the files in deploy/ belong to another user; if a container cannot read them, run: chmod -R go+rX deploy" >&2
# Here, too, so that the refusal is the last line, and not in the log of a container.
case " $* " in
    *" up "*) sh deploy/guard.sh stack .env ;;
esac
# Without a word, what .env says of other servers would look as if it were used.
case " $* " in
    *" up "*)
        unused=$(sed -nE 's/^(VAR_DIR|STATIC_ROOT|BACKUP_DIR|CHROMIUM|[A-Z_]+_FILE|[A-Z_]+_URL)=.*/\1/p' .env 2>/dev/null | grep -vxE 'NOTIFY_URL|[A-Z]+_READ_URL' | paste -sd ' ' -)
        [ -z "$unused" ] || echo "compose: the stack does not use these lines of .env: $unused. It has servers and folders of its own, and reads no NAME_FILE" >&2
        ;;
esac
exec "$@"

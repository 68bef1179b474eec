#!/bin/sh
# Start a container in one role: web, worker, beat, migrate, or manage COMMAND. Only migrate applies migrations; the others wait for them.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")/.."
role=${1:-web}
[ $# = 0 ] || shift

prepare() {
    # deploy/healthcheck.py reads it; without it every role would count as well.
    { printf '%s\n' "$role" >"$VAR_DIR/role"; } 2>/dev/null || {
        echo "VAR_DIR: cannot write there (user $(id -u), group $(id -g)). Example: VAR_DIR=/var/lib/techmarket" >&2
        exit 4
    }
    python manage.py wait --seconds "${WAIT_SECONDS:-60}"
}

case "$role" in
    web)
        prepare
        exec gunicorn --config deploy/gunicorn.conf.py techmarket.wsgi "$@"
        ;;
    worker)
        prepare
        exec celery -A techmarket worker --loglevel info --without-gossip --without-mingle "$@"
        ;;
    beat)
        prepare
        exec celery -A techmarket beat --loglevel warning --pidfile= "$@"
        ;;
    migrate) exec python manage.py migrate_all --wait "${WAIT_SECONDS:-60}" "$@" ;;
    manage) exec python manage.py "$@" ;;
    *)
        echo "entrypoint: unknown role '$role'; use web, worker, beat, migrate or manage COMMAND" >&2
        exit 2
        ;;
esac

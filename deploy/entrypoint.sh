#!/bin/sh
# What a container of the image does: web, worker, beat, migrate, or manage COMMAND. Only migrate migrates; the others wait for it.
set -eu
cd "$(dirname "$0")/.."
role=${1:-web}
[ $# = 0 ] || shift

begin() {
    printf '%s\n' "$role" >"$VAR_DIR/role" # deploy/healthcheck.py asks what to look at
    python manage.py wait --seconds "${WAIT_SECONDS:-60}"
}

case "$role" in
    web)
        begin
        exec gunicorn --config deploy/gunicorn.conf.py techmarket.wsgi "$@"
        ;;
    worker)
        begin
        exec celery -A techmarket worker --loglevel info --without-gossip --without-mingle "$@"
        ;;
    beat)
        begin
        exec celery -A techmarket beat --loglevel warning --pidfile= "$@"
        ;;
    migrate) exec python manage.py migrate_all --wait "${WAIT_SECONDS:-60}" "$@" ;;
    manage) exec python manage.py "$@" ;;
    *)
        echo "entrypoint: no role '$role'; there are web, worker, beat, migrate, and manage COMMAND" >&2
        exit 2
        ;;
esac

#!/bin/sh
# Secrets of your own for the overlay production: a random password for each user, and the addresses that go with them.
# Once, before the databases start: they keep the passwords of their first start. --print shows them instead (for a sealed or external store).
set -eu
random() {
    od -An -N 24 -v -tx1 /dev/urandom | tr -d ' \n'
}

# secret NAME: its keys follow on stdin.
secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: techmarket}\nstringData:\n' "$1"
    sed 's/^/  /'
}

auth=$(random) catalog=$(random) orders=$(random) payments=$(random) reader=$(random)
dwh=$(random) control=$(random) redis=$(random) key=$(random)$(random) metrics=$(random)

# source_address SERVICE USER PASSWORD
source_address() {
    printf '%s_DB_URL: mysql://%s:%s@%s-db:3306/%s_db\n' "$(echo "$1" | tr a-z A-Z)" "$2" "$3" "$1" "$1"
}
ours() {
    cat <<END
SECRET_KEY: $key
METRICS_TOKEN: $metrics
CELERY_BROKER_URL: redis://:$redis@redis:6379/0
CONTROL_DB_URL: postgres://control_user:$control@dwh-db:5432/control
DWH_URL: postgres://dwh_user:$dwh@dwh-db:5432/dwh
END
}

all() {
    for service in auth catalog orders payments; do
        eval "password=\$$service"
        printf '%s: %s\n' root-password "$(random)" password "$password" reader-password "$reader" | secret "$service-db"
    done
    printf '%s: %s\n' superuser-password "$(random)" dwh-password "$dwh" control-password "$control" bi-password "$(random)" | secret dwh-db
    printf '%s: %s\n' password "$redis" | secret redis
    {
        ours
        for service in auth catalog orders payments; do source_address "$service" etl_reader "$reader"; done
    } | secret techmarket-reader
    {
        ours
        for service in auth catalog orders payments; do
            eval "password=\$$service"
            source_address "$service" "${service}_user" "$password"
        done
    } | secret techmarket-owner
}

case "${1:-}" in
    --print) all ;;
    "")
        kubectl get namespace techmarket >/dev/null 2>&1 || kubectl create namespace techmarket
        all | kubectl create -f - # create, not apply: what is there already is never overwritten
        ;;
    *)
        echo "usage: k8s/create-secrets.sh [--print]" >&2
        exit 2
        ;;
esac

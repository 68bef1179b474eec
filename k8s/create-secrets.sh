#!/bin/sh
# Create the secrets for the overlay production: a random password for each user, and the database URLs with them.
# Run it once, before the databases first start, because they keep those passwords. --print prints the secrets instead (for a secret store).
set -eu
make_random() {
    od -An -N 24 -v -tx1 /dev/urandom | tr -d ' \n'
}

# print_secret NAME: reads the keys from stdin.
print_secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: techmarket}\nstringData:\n' "$1"
    sed 's/^/  /'
}

auth=$(make_random) catalog=$(make_random) orders=$(make_random) payments=$(make_random) reader=$(make_random)
dwh=$(make_random) control=$(make_random) etl_web=$(make_random) etl_worker=$(make_random) bi=$(make_random)
key=$(make_random)$(make_random) metrics=$(make_random)
redis=$(make_random) web=$(make_random) worker=$(make_random) beat=$(make_random)

# print_source_url SERVICE USER PASSWORD
print_source_url() {
    printf '%s_DB_URL: mysql://%s:%s@%s-db:3306/%s_db\n' "$(echo "$1" | tr a-z A-Z)" "$2" "$3" "$1" "$1"
}
# print_own_keys USER-OF-CONTROL:PASSWORD USER-OF-WAREHOUSE:PASSWORD
print_own_keys() {
    cat <<END
SECRET_KEY: $key
METRICS_TOKEN: $metrics
CELERY_BROKER_URL: redis://web:$web@redis:6379/0
CONTROL_DB_URL: postgres://$1@dwh-db:5432/control
DWH_URL: postgres://$2@dwh-db:5432/dwh
END
}
print_reader_urls() {
    for service in auth catalog orders payments; do print_source_url "$service" etl_reader "$reader"; done
}

print_all() {
    for service in auth catalog orders payments; do
        eval "password=\$$service"
        printf '%s: %s\n' root-password "$(make_random)" password "$password" reader-password "$reader" | print_secret "$service-db"
    done
    printf '%s: %s\n' superuser-password "$(make_random)" dwh-password "$dwh" control-password "$control" web-password "$etl_web" \
        worker-password "$etl_worker" bi-password "$bi" | print_secret dwh-db
    printf '%s: %s\n' password "$redis" web-password "$web" worker-password "$worker" beat-password "$beat" | print_secret redis
    for role in worker beat; do
        eval "password=\$$role"
        printf '%s: redis://%s:%s@redis:6379/0\n' "$role" "$role" "$password"
    done | print_secret techmarket-broker
    {
        print_own_keys "etl_web:$etl_web" "etl_web:$etl_web"
        print_reader_urls
    } | print_secret techmarket-web
    {
        print_own_keys "etl_worker:$etl_worker" "dwh_user:$dwh"
        print_reader_urls
    } | print_secret techmarket-worker
    {
        print_own_keys "control_user:$control" "dwh_user:$dwh"
        for service in auth catalog orders payments; do
            eval "password=\$$service"
            print_source_url "$service" "${service}_user" "$password"
        done
    } | print_secret techmarket-owner
    print_secret techmarket-metabase <<END
METABASE_PASS: $(make_random)
DWH_BI_URL: postgres://bi_reader:$bi@dwh-db.techmarket.svc:5432/dwh
END
}

case "${1:-}" in
    --print) print_all ;;
    "")
        kubectl get namespace techmarket >/dev/null 2>&1 || kubectl create namespace techmarket
        # One that is missing beside others would get other passwords than the databases have.
        if kubectl get secret dwh-db --namespace techmarket >/dev/null 2>&1; then
            echo "create-secrets: there are secrets in the namespace techmarket already; add what is missing by hand (docs/KUBERNETES.md)" >&2
            exit 1
        fi
        print_all | kubectl create -f - # create, not apply: existing secrets are never overwritten
        ;;
    *)
        echo "usage: k8s/create-secrets.sh [--print]" >&2
        exit 2
        ;;
esac

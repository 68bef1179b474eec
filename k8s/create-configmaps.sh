#!/bin/sh
# The scripts that a database runs at its first start, out of deploy/ into the cluster: what Compose mounts. Again changes nothing.
set -eu
cd "$(dirname "$0")/.."
apply() {
    kubectl create configmap "$1" --namespace techmarket --from-file="$2" --dry-run=client --output yaml | kubectl apply -f -
}
apply mysql-init deploy/mysql/reader.sh
apply postgres-init deploy/postgres/roles.sh

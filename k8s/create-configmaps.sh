#!/bin/sh
# Create ConfigMaps with the scripts of deploy/ that the servers run when they start, as Compose mounts them. May be run again.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")/.."
apply() {
    kubectl create configmap "$1" --namespace techmarket --from-file="$2" --dry-run=client --output yaml | kubectl apply -f -
}
apply mysql-init deploy/mysql/reader.sh
apply postgres-init deploy/postgres/roles.sh
apply redis-users deploy/redis/users.sh

#!/bin/sh
# Refuse to open ports to other machines with the passwords for development, which are public. Compose's guards run it before every server
# with a port, and compose.sh before Compose. sh deploy/guard.sh stack|monitoring [FILE]: the passwords of the stack, or those of Grafana and
# Flower, from the environment or else from a file such as .env.
set -eu
file=${2:-/dev/null}
stack="SECRET_KEY=django-insecure-for-the-embedded-default-only AUTH_DB_PASSWORD=auth_pass CATALOG_DB_PASSWORD=catalog_pass
ORDERS_DB_PASSWORD=orders_pass PAYMENTS_DB_PASSWORD=payments_pass DWH_DB_PASSWORD=dwh_pass CONTROL_DB_PASSWORD=control_pass
ETL_WEB_PASSWORD=web_pass ETL_WORKER_PASSWORD=worker_pass ETL_READER_PASSWORD=etl_pass BI_READER_PASSWORD=bi_pass
REDIS_PASSWORD=redis_pass REDIS_WEB_PASSWORD=redis_web_pass
REDIS_WORKER_PASSWORD=redis_worker_pass REDIS_BEAT_PASSWORD=redis_beat_pass REDIS_FLOWER_PASSWORD=redis_flower_pass
MYSQL_ROOT_PASSWORD=rootpass POSTGRES_PASSWORD=rootpass METABASE_PASS=metabase_pass1"
monitoring="GRAFANA_PASSWORD=grafana_pass FLOWER_BASIC_AUTH=admin:flower_pass"

refuse() {
    echo "guard: $open opens ports to other machines, and $1 in .env, before the first start." >&2
    exit 4
}

# Print the value of a variable, as Compose would find it.
find_value() {
    eval "value=\${$1:-}"
    [ -n "$value" ] || value=$(sed -n "s/^ *\(export \)\{0,1\}$1 *= *//p" "$file" 2>/dev/null | tail -n 1 | tr -d "\"'\r")
    printf %s "$value"
}

open=
for name in BIND WEB_BIND; do
    address=$(find_value "$name")
    case "$address" in
        "" | 127.* | localhost | ::1 | "[::1]") ;;
        *) open="$name=$address" ;;
    esac
done
[ -n "$open" ] || exit 0
case "$(find_value DEBUG)" in
    [Ff]alse | FALSE | 0 | [Nn]o | [Oo]ff) ;;
    *) refuse "DEBUG is on. Set DEBUG=false" ;;
esac
case "$1" in
    monitoring) known=$monitoring ;;
    *) known=$stack ;;
esac
for pair in $known; do
    name=${pair%%=*}
    value=$(find_value "$name")
    if [ -z "$value" ] || [ "$value" = "${pair#*=}" ]; then
        refuse "$name is the one for development, which is public. Set another"
    fi
done

# The PostgreSQL image sources this script in its entrypoint's shell (no execute bit) at the first start of an empty data folder. On an
# existing server run it by hand as the superuser, with POSTGRES_USER and the three passwords (or ..._FILE) in the environment.
# It creates the warehouse and the control database, each with its owner, and bi_reader, who may only connect to the warehouse:
# `manage.py migrate_all` grants SELECT on the star's tables, one by one.
# shellcheck shell=sh
read_password() {
    eval "password=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$password" ]; then printf %s "$password"; else cat "${file:?set $1 or $1_FILE}"; fi
}

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set dwh_password="$(read_password DWH_DB_PASSWORD)" \
    --set control_password="$(read_password CONTROL_DB_PASSWORD)" \
    --set bi_password="$(read_password BI_READER_PASSWORD)" <<'SQL'
-- CREATEDB: `manage.py backup --verify` restores backups into throwaway databases.
CREATE ROLE dwh_user LOGIN CREATEDB PASSWORD :'dwh_password';
CREATE ROLE control_user LOGIN CREATEDB PASSWORD :'control_password';
CREATE ROLE bi_reader LOGIN PASSWORD :'bi_password' CONNECTION LIMIT 20;
ALTER ROLE bi_reader SET default_transaction_read_only = on;
ALTER ROLE bi_reader SET statement_timeout = '60s';

CREATE DATABASE dwh OWNER dwh_user TEMPLATE template0 ENCODING 'UTF8';
CREATE DATABASE control OWNER control_user TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE dwh, control, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE dwh TO bi_reader;

\connect control
REVOKE ALL ON SCHEMA public FROM PUBLIC;

\connect dwh
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO bi_reader;
-- By default every role may create large objects.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
SQL

# Run by the PostgreSQL image at the first start of an empty data folder, in the entrypoint's own shell (no execute bit), and by
# hand on a server that exists, as its superuser: POSTGRES_USER and the three passwords (or ..._FILE) in the environment.
# It makes the warehouse and the control database, each with an owner, and bi_reader, who may do nothing yet but connect to the
# warehouse: `manage.py migrate_all` grants it the star's tables, one by one, and no other.
# shellcheck shell=sh
password_of() {
    eval "password=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$password" ]; then printf %s "$password"; else cat "${file:?name $1 or its file}"; fi
}

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set dwh_password="$(password_of DWH_DB_PASSWORD)" \
    --set control_password="$(password_of CONTROL_DB_PASSWORD)" \
    --set bi_password="$(password_of BI_READER_PASSWORD)" <<'SQL'
-- CREATEDB: `manage.py backup --verify` looks in throwaway databases whether a backup can be restored.
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
-- Else everybody may keep large objects here.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
SQL

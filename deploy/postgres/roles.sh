# The PostgreSQL image sources this script in its entrypoint's shell (no execute bit) at the first start of an empty data folder. On an
# existing server run it by hand as the superuser, with POSTGRES_USER and the five passwords (or ..._FILE) in the environment; it creates
# what is missing, and sets the passwords.
# It creates the warehouse and the control database, each with its owner, and users with less than an owner's rights: etl_web, etl_worker
# and bi_reader, who may only connect. `manage.py migrate_all` grants them the tables, one by one.
# shellcheck shell=sh
read_password() {
    eval "password=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$password" ]; then printf %s "$password"; else cat "${file:?set $1 or $1_FILE}"; fi
}

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set dwh_password="$(read_password DWH_DB_PASSWORD)" \
    --set control_password="$(read_password CONTROL_DB_PASSWORD)" \
    --set web_password="$(read_password ETL_WEB_PASSWORD)" \
    --set worker_password="$(read_password ETL_WORKER_PASSWORD)" \
    --set bi_password="$(read_password BI_READER_PASSWORD)" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest('{dwh_user,control_user,etl_web,etl_worker,bi_reader}'::text[]) AS name
    WHERE to_regrole(name) IS NULL \gexec
-- CREATEDB: `manage.py backup --verify` restores backups into throwaway databases.
ALTER ROLE dwh_user CREATEDB PASSWORD :'dwh_password';
ALTER ROLE control_user CREATEDB PASSWORD :'control_password';
ALTER ROLE etl_web PASSWORD :'web_password';
ALTER ROLE etl_worker PASSWORD :'worker_password';
ALTER ROLE bi_reader PASSWORD :'bi_password' CONNECTION LIMIT 20;
ALTER ROLE bi_reader SET default_transaction_read_only = on;
ALTER ROLE bi_reader SET statement_timeout = '60s';

SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L', name, owner, 'UTF8')
    FROM (VALUES ('dwh', 'dwh_user'), ('control', 'control_user')) AS wanted(name, owner)
    WHERE NOT EXISTS (SELECT 1 FROM pg_database WHERE datname = name) \gexec
REVOKE ALL ON DATABASE dwh, control, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE dwh TO etl_web, bi_reader;
GRANT CONNECT ON DATABASE control TO etl_web, etl_worker;

\connect control
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO etl_web, etl_worker;

\connect dwh
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO etl_web, bi_reader;
-- By default every role may create large objects.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
SQL

# Run by the MySQL image at the first start of an empty data folder, in the entrypoint's own shell (no execute bit), and by hand
# on a server that exists: MYSQL_DATABASE, MYSQL_ROOT_PASSWORD and ETL_READER_PASSWORD (or ..._FILE) in the environment.
# It makes etl_reader, as whom TechMarket reads: SELECT on this source and nothing else. The owner, where MYSQL_USER names him, may
# make databases named after this one, in which `manage.py backup --verify` looks whether a backup can be restored.
# shellcheck shell=sh
etl_reader_password=${ETL_READER_PASSWORD:-$(cat "${ETL_READER_PASSWORD_FILE:?name ETL_READER_PASSWORD or its file}")}

# As hexadecimal digits: no character of a password can end the literal.
hexadecimal() {
    printf %s "$1" | od -An -v -tx1 | tr -d ' \n'
}

MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql --default-character-set=utf8mb4 --user=root "$MYSQL_DATABASE" <<SQL
SET @password = QUOTE(CONVERT(X'$(hexadecimal "$etl_reader_password")' USING utf8mb4));
-- An underscore would stand for any letter there.
SET @source = REPLACE(DATABASE(), '_', '\\\\_');
SET @sql = CONCAT('CREATE USER IF NOT EXISTS etl_reader@''%'' IDENTIFIED BY ', @password);
PREPARE statement FROM @sql;
EXECUTE statement;
SET @sql = CONCAT('GRANT SELECT ON \`', @source, '\`.* TO etl_reader@''%''');
PREPARE statement FROM @sql;
EXECUTE statement;
SET @owner = CONVERT(X'$(hexadecimal "${MYSQL_USER:-}")' USING utf8mb4);
SET @sql = IF(@owner = '', 'DO 0', CONCAT('GRANT ALL ON \`', @source, '\\\\_verify\\\\_%\`.* TO ', QUOTE(@owner), '@''%'''));
PREPARE statement FROM @sql;
EXECUTE statement;
DEALLOCATE PREPARE statement;
SQL
unset etl_reader_password

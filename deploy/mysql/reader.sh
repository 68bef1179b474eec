# The MySQL image sources this script in its entrypoint's shell (no execute bit) at the first start of an empty data folder. On an existing
# server run it by hand with MYSQL_DATABASE, MYSQL_ROOT_PASSWORD and ETL_READER_PASSWORD (or ..._FILE) in the environment.
# It creates etl_reader, the user for TechMarket's reads, with SELECT on this source alone. The owner, MYSQL_USER, gets the right to
# create databases named after this one, in which `manage.py backup --verify` restores backups.
# shellcheck shell=sh
etl_reader_password=${ETL_READER_PASSWORD:-$(cat "${ETL_READER_PASSWORD_FILE:?set ETL_READER_PASSWORD or ETL_READER_PASSWORD_FILE}")}

# Hexadecimal digits: no character of a password can end the SQL literal.
to_hex() {
    printf %s "$1" | od -An -v -tx1 | tr -d ' \n'
}

MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql --default-character-set=utf8mb4 --user=root "$MYSQL_DATABASE" <<SQL
SET @password = QUOTE(CONVERT(X'$(to_hex "$etl_reader_password")' USING utf8mb4));
-- In GRANT an unescaped underscore stands for any character.
SET @source = REPLACE(DATABASE(), '_', '\\\\_');
SET @sql = CONCAT('CREATE USER IF NOT EXISTS etl_reader@''%'' IDENTIFIED BY ', @password);
PREPARE statement FROM @sql;
EXECUTE statement;
SET @sql = CONCAT('GRANT SELECT ON \`', @source, '\`.* TO etl_reader@''%''');
PREPARE statement FROM @sql;
EXECUTE statement;
SET @owner = CONVERT(X'$(to_hex "${MYSQL_USER:-}")' USING utf8mb4);
SET @sql = IF(@owner = '', 'DO 0', CONCAT('GRANT ALL ON \`', @source, '\\\\_verify\\\\_%\`.* TO ', QUOTE(@owner), '@''%'''));
PREPARE statement FROM @sql;
EXECUTE statement;
DEALLOCATE PREPARE statement;
SQL
unset etl_reader_password

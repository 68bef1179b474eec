-- auth_db: accounts, their roles and access tokens. For MySQL 8.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.

-- An account of a customer, of an employee, or of neither (an administrator).
CREATE TABLE `auth_users` (
    `id`          bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `email`       varchar(254) NOT NULL UNIQUE,  -- login name
    `status`      varchar(20) NOT NULL,  -- whether the account can sign in (active | disabled | blocked)
    `customer_id` bigint NULL,  -- customers.id in orders_db; empty if not a customer
    `employee_id` bigint NULL  -- employees.id in orders_db; empty if not an employee
);
CREATE INDEX `auth_users_updated_at_82c0d13d` ON `auth_users` (`updated_at`);
CREATE INDEX `auth_users_customer_id_553fc848` ON `auth_users` (`customer_id`);
CREATE INDEX `auth_users_employee_id_00e547fa` ON `auth_users` (`employee_id`);

-- The password of an account, stored as a hash.
CREATE TABLE `auth_credentials` (
    `id`                  bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at`          datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at`          datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `user_id`             bigint NOT NULL UNIQUE,  -- account of the password
    `password_hash`       varchar(255) NOT NULL,  -- includes the salt; not read by the ETL
    `algo`                varchar(40) NOT NULL,  -- hash algorithm
    `password_updated_at` datetime(6) NOT NULL,  -- when the password was last changed
    CONSTRAINT `auth_credentials_user_id_27535f77_fk_auth_users_id` FOREIGN KEY (`user_id`) REFERENCES `auth_users` (`id`)
);
CREATE INDEX `auth_credentials_updated_at_8c34e133` ON `auth_credentials` (`updated_at`);

-- An access token of an account, stored as a hash.
CREATE TABLE `auth_tokens` (
    `id`           bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `user_id`      bigint NOT NULL,  -- account of the token
    `token_hash`   varchar(64) NOT NULL UNIQUE,  -- SHA-256, hexadecimal; not read by the ETL
    `issued_at`    datetime(6) NOT NULL,  -- when the token was issued
    `expires_at`   datetime(6) NOT NULL,  -- when the token expires, exclusive
    `revoked`      bool NOT NULL,  -- whether the token was revoked early
    `last_used_at` datetime(6) NULL,  -- empty if never used
    `user_agent`   varchar(255) NOT NULL,  -- client program, as it identifies itself
    `ip`           varchar(45) NOT NULL,  -- client address, IPv4 or IPv6
    `scopes`       varchar(255) NOT NULL,  -- granted scopes, separated by spaces
    CONSTRAINT `auth_tokens_user_id_c53cffe1_fk_auth_users_id` FOREIGN KEY (`user_id`) REFERENCES `auth_users` (`id`)
);
CREATE INDEX `auth_tokens_updated_at_41eef0b1` ON `auth_tokens` (`updated_at`);

-- A role that accounts can have; there are four.
CREATE TABLE `roles` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `name`       varchar(20) NOT NULL UNIQUE,  -- unique name, used by programs (ADMIN | SALES | CUSTOMER | BI_VIEWER)
    `comment`    varchar(255) NOT NULL  -- description for people
);
CREATE INDEX `roles_updated_at_66a16826` ON `roles` (`updated_at`);

-- A role of an account.
CREATE TABLE `user_roles` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `user_id`    bigint NOT NULL,  -- account that has the role
    `role_id`    bigint NOT NULL,  -- role of the account
    CONSTRAINT `user_roles_user_role` UNIQUE (`user_id`, `role_id`),
    CONSTRAINT `user_roles_user_id_9d9f8dbb_fk_auth_users_id` FOREIGN KEY (`user_id`) REFERENCES `auth_users` (`id`),
    CONSTRAINT `user_roles_role_id_816a4486_fk_roles_id` FOREIGN KEY (`role_id`) REFERENCES `roles` (`id`)
);
CREATE INDEX `user_roles_updated_at_2d82de9f` ON `user_roles` (`updated_at`);

-- auth_db: who may do what. For MySQL 8.
-- Made from the models by `manage.py export_schema`, to be read. The tables themselves are made by `manage.py migrate_all`,
-- which remembers that it did.

-- An account; of a customer, of an employee, or of neither (an administrator).
CREATE TABLE `auth_users` (
    `id`          bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `email`       varchar(254) NOT NULL UNIQUE,  -- what the person logs in with
    `status`      varchar(20) NOT NULL,  -- whether the person may log in (active | disabled | blocked)
    `customer_id` bigint NULL,  -- customers.id in orders_db; empty: not a customer's
    `employee_id` bigint NULL  -- employees.id in orders_db; empty: not an employee's
);
CREATE INDEX `auth_users_updated_at_82c0d13d` ON `auth_users` (`updated_at`);
CREATE INDEX `auth_users_customer_id_553fc848` ON `auth_users` (`customer_id`);
CREATE INDEX `auth_users_employee_id_00e547fa` ON `auth_users` (`employee_id`);

-- The password of one account, as a hash.
CREATE TABLE `auth_credentials` (
    `id`                  bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at`          datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at`          datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `user_id`             bigint NOT NULL UNIQUE,  -- whose password it is
    `password_hash`       varchar(255) NOT NULL,  -- with its salt; the ETL does not read it
    `algo`                varchar(40) NOT NULL,  -- how the hash was made
    `password_updated_at` datetime(6) NOT NULL,  -- when the password was last set
    CONSTRAINT `auth_credentials_user_id_27535f77_fk_auth_users_id` FOREIGN KEY (`user_id`) REFERENCES `auth_users` (`id`)
);
CREATE INDEX `auth_credentials_updated_at_8c34e133` ON `auth_credentials` (`updated_at`);

-- One access token of an account, as a hash.
CREATE TABLE `auth_tokens` (
    `id`           bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `user_id`      bigint NOT NULL,  -- whose token it is
    `token_hash`   varchar(64) NOT NULL UNIQUE,  -- SHA-256, hexadecimal; the ETL does not read it
    `issued_at`    datetime(6) NOT NULL,  -- when it was given out
    `expires_at`   datetime(6) NOT NULL,  -- good until then, excluded
    `revoked`      bool NOT NULL,  -- taken back before its time
    `last_used_at` datetime(6) NULL,  -- empty: never
    `user_agent`   varchar(255) NOT NULL,  -- the program that asked for it, as it names itself
    `ip`           varchar(45) NOT NULL,  -- the address it was asked for from, IPv4 or IPv6
    `scopes`       varchar(255) NOT NULL,  -- what it allows, by name, joined with spaces
    CONSTRAINT `auth_tokens_user_id_c53cffe1_fk_auth_users_id` FOREIGN KEY (`user_id`) REFERENCES `auth_users` (`id`)
);
CREATE INDEX `auth_tokens_updated_at_41eef0b1` ON `auth_tokens` (`updated_at`);

-- One of the four roles that an account may have.
CREATE TABLE `roles` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `name`       varchar(20) NOT NULL UNIQUE,  -- by which programs know it (ADMIN | SALES | CUSTOMER | BI_VIEWER)
    `comment`    varchar(255) NOT NULL  -- what it is for, to people
);
CREATE INDEX `roles_updated_at_66a16826` ON `roles` (`updated_at`);

-- That an account has a role.
CREATE TABLE `user_roles` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `user_id`    bigint NOT NULL,  -- the account
    `role_id`    bigint NOT NULL,  -- the role it has
    CONSTRAINT `user_roles_user_role` UNIQUE (`user_id`, `role_id`),
    CONSTRAINT `user_roles_user_id_9d9f8dbb_fk_auth_users_id` FOREIGN KEY (`user_id`) REFERENCES `auth_users` (`id`),
    CONSTRAINT `user_roles_role_id_816a4486_fk_roles_id` FOREIGN KEY (`role_id`) REFERENCES `roles` (`id`)
);
CREATE INDEX `user_roles_updated_at_2d82de9f` ON `user_roles` (`updated_at`);

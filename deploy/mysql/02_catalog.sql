-- catalog_db: categories and products. For MySQL 8.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.

-- A product category on one of two levels: a root, or the child of a root.
CREATE TABLE `categories` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `name`       varchar(120) NOT NULL,  -- unique within the parent
    `parent_id`  bigint NULL,  -- parent category; empty for a root
    CONSTRAINT `categories_parent_name` UNIQUE (`parent_id`, `name`),
    CONSTRAINT `categories_parent_id_fc02df82_fk_categories_id` FOREIGN KEY (`parent_id`) REFERENCES `categories` (`id`)
);
CREATE INDEX `categories_updated_at_1da4ffae` ON `categories` (`updated_at`);

-- A product with its current price and cost.
CREATE TABLE `products` (
    `id`          bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `name`        varchar(200) NOT NULL,  -- name shown to customers
    `sku`         varchar(40) NOT NULL UNIQUE,  -- stock keeping unit, the shop's product code
    `category_id` bigint NOT NULL,  -- category of the product
    `price`       numeric(12, 2) NOT NULL,  -- current price of one piece, UAH
    `cost`        numeric(12, 2) NOT NULL,  -- current cost of one piece to the shop, UAH
    `status`      varchar(20) NOT NULL,  -- whether the product is on sale (active | inactive)
    CONSTRAINT `products_category_id_a7a3a156_fk_categories_id` FOREIGN KEY (`category_id`) REFERENCES `categories` (`id`)
);
CREATE INDEX `products_updated_at_a457a9cd` ON `products` (`updated_at`);

-- catalog_db: what is sold. For MySQL 8.
-- Made from the models by `manage.py export_schema`, to be read. The tables themselves are made by `manage.py migrate_all`,
-- which remembers that it did.

-- A category of products: a root, or a child of a root; two levels.
CREATE TABLE `categories` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `name`       varchar(120) NOT NULL,  -- no two of one parent have the same
    `parent_id`  bigint NULL,  -- the category above; empty: a root
    CONSTRAINT `categories_parent_name` UNIQUE (`parent_id`, `name`),
    CONSTRAINT `categories_parent_id_fc02df82_fk_categories_id` FOREIGN KEY (`parent_id`) REFERENCES `categories` (`id`)
);
CREATE INDEX `categories_updated_at_1da4ffae` ON `categories` (`updated_at`);

-- What the shop sells, at today's price and cost.
CREATE TABLE `products` (
    `id`          bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at`  datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `name`        varchar(200) NOT NULL,  -- as customers see it
    `sku`         varchar(40) NOT NULL UNIQUE,  -- stock keeping unit: the shop's own number of the product
    `category_id` bigint NOT NULL,  -- where it stands in the catalog
    `price`       numeric(12, 2) NOT NULL,  -- of one piece today, UAH
    `cost`        numeric(12, 2) NOT NULL,  -- what one piece costs the shop today, UAH
    `status`      varchar(20) NOT NULL,  -- whether it is on sale (active | inactive)
    CONSTRAINT `products_category_id_a7a3a156_fk_categories_id` FOREIGN KEY (`category_id`) REFERENCES `categories` (`id`)
);
CREATE INDEX `products_updated_at_a457a9cd` ON `products` (`updated_at`);

-- orders_db: who bought what, through whom, where. For MySQL 8.
-- Made from the models by `manage.py export_schema`, to be read. The tables themselves are made by `manage.py migrate_all`,
-- which remembers that it did.

-- A region that the shop sells in.
CREATE TABLE `regions` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `code`       varchar(10) NOT NULL UNIQUE,  -- short and stable, for filters
    `name`       varchar(120) NOT NULL  -- as people call it
);
CREATE INDEX `regions_updated_at_4d5ec40d` ON `regions` (`updated_at`);

-- Who sells.
CREATE TABLE `employees` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `first_name` varchar(80) NOT NULL,  -- given name
    `last_name`  varchar(80) NOT NULL,  -- family name
    `email`      varchar(254) NOT NULL UNIQUE,  -- where the person is written to
    `region_id`  bigint NOT NULL,  -- where the employee works
    `hired_at`   date NOT NULL,  -- first day at work
    `is_manager` bool NOT NULL,  -- leads others
    CONSTRAINT `employees_region_id_eb572ddf_fk_regions_id` FOREIGN KEY (`region_id`) REFERENCES `regions` (`id`)
);
CREATE INDEX `employees_updated_at_514834ed` ON `employees` (`updated_at`);

-- Who buys.
CREATE TABLE `customers` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `first_name` varchar(80) NOT NULL,  -- given name
    `last_name`  varchar(80) NOT NULL,  -- family name
    `email`      varchar(254) NOT NULL UNIQUE,  -- where the person is written to
    `region_id`  bigint NOT NULL,  -- where the customer lives
    `phone`      varchar(40) NOT NULL,  -- as the customer wrote it
    CONSTRAINT `customers_region_id_17ebf186_fk_regions_id` FOREIGN KEY (`region_id`) REFERENCES `regions` (`id`)
);
CREATE INDEX `customers_updated_at_3f57f069` ON `customers` (`updated_at`);

-- One purchase. `customer` and `order_date` may be NULL in the database for other programs write it; the ETL rejects such an order.
CREATE TABLE `orders` (
    `id`           bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `customer_id`  bigint NULL,  -- who bought
    `employee_id`  bigint NULL,  -- who sold; empty for a web order
    `region_id`    bigint NOT NULL,  -- where it was sold
    `order_date`   datetime(6) NULL,  -- when it was ordered, kept in UTC
    `status`       varchar(20) NOT NULL,  -- a sale is what is paid or shipped (new | paid | shipped | cancelled)
    `total_amount` numeric(12, 2) NOT NULL,  -- UAH, its lines after discount
    CONSTRAINT `orders_customer_id_b7016332_fk_customers_id` FOREIGN KEY (`customer_id`) REFERENCES `customers` (`id`),
    CONSTRAINT `orders_employee_id_098e8632_fk_employees_id` FOREIGN KEY (`employee_id`) REFERENCES `employees` (`id`),
    CONSTRAINT `orders_region_id_9b296c6c_fk_regions_id` FOREIGN KEY (`region_id`) REFERENCES `regions` (`id`)
);
CREATE INDEX `orders_updated_at_9e10cb5f` ON `orders` (`updated_at`);

-- One line of an order: one product.
CREATE TABLE `order_items` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `order_id`   bigint NOT NULL,  -- whose line it is
    `product_id` bigint NOT NULL,  -- products.id in catalog_db
    `quantity`   integer NOT NULL,  -- pieces, 1 or more
    `unit_price` numeric(12, 2) NOT NULL,  -- UAH a piece, before discount
    `discount`   numeric(12, 2) NOT NULL,  -- UAH off the whole line
    CONSTRAINT `order_items_order_product` UNIQUE (`order_id`, `product_id`),
    CONSTRAINT `order_items_order_id_412ad78b_fk_orders_id` FOREIGN KEY (`order_id`) REFERENCES `orders` (`id`)
);
CREATE INDEX `order_items_updated_at_fbffebc6` ON `order_items` (`updated_at`);
CREATE INDEX `order_items_product_id_dd557d5a` ON `order_items` (`product_id`);

-- orders_db: regions, employees, customers, orders and their lines. For MySQL 8.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.

-- A sales region.
CREATE TABLE `regions` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `code`       varchar(10) NOT NULL UNIQUE,  -- short stable code for filters
    `name`       varchar(120) NOT NULL  -- display name
);
CREATE INDEX `regions_updated_at_4d5ec40d` ON `regions` (`updated_at`);

-- An employee in sales.
CREATE TABLE `employees` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `first_name` varchar(80) NOT NULL,  -- given name
    `last_name`  varchar(80) NOT NULL,  -- family name
    `email`      varchar(254) NOT NULL UNIQUE,  -- contact address
    `region_id`  bigint NOT NULL,  -- where the employee works
    `hired_at`   date NOT NULL,  -- first working day
    `is_manager` bool NOT NULL,  -- whether the employee leads others
    CONSTRAINT `employees_region_id_eb572ddf_fk_regions_id` FOREIGN KEY (`region_id`) REFERENCES `regions` (`id`)
);
CREATE INDEX `employees_updated_at_514834ed` ON `employees` (`updated_at`);

-- A customer of the shop.
CREATE TABLE `customers` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `first_name` varchar(80) NOT NULL,  -- given name
    `last_name`  varchar(80) NOT NULL,  -- family name
    `email`      varchar(254) NOT NULL UNIQUE,  -- contact address
    `region_id`  bigint NOT NULL,  -- where the customer lives
    `phone`      varchar(40) NOT NULL,  -- as the customer entered it
    CONSTRAINT `customers_region_id_17ebf186_fk_regions_id` FOREIGN KEY (`region_id`) REFERENCES `regions` (`id`)
);
CREATE INDEX `customers_updated_at_3f57f069` ON `customers` (`updated_at`);

-- An order. `customer` and `order_date` are nullable, because other programs write to the table; the ETL rejects such orders.
CREATE TABLE `orders` (
    `id`           bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at`   datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `customer_id`  bigint NULL,  -- buyer
    `employee_id`  bigint NULL,  -- seller; empty for a web order
    `region_id`    bigint NOT NULL,  -- region of the sale
    `order_date`   datetime(6) NULL,  -- when the order was placed, UTC
    `status`       varchar(20) NOT NULL,  -- paid and shipped orders count as sales (new | paid | shipped | cancelled)
    `total_amount` numeric(12, 2) NOT NULL,  -- sum of the lines after discount, UAH
    CONSTRAINT `orders_customer_id_b7016332_fk_customers_id` FOREIGN KEY (`customer_id`) REFERENCES `customers` (`id`),
    CONSTRAINT `orders_employee_id_098e8632_fk_employees_id` FOREIGN KEY (`employee_id`) REFERENCES `employees` (`id`),
    CONSTRAINT `orders_region_id_9b296c6c_fk_regions_id` FOREIGN KEY (`region_id`) REFERENCES `regions` (`id`)
);
CREATE INDEX `orders_updated_at_9e10cb5f` ON `orders` (`updated_at`);

-- A line of an order: one product with its quantity and price.
CREATE TABLE `order_items` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `order_id`   bigint NOT NULL,  -- order of the line
    `product_id` bigint NOT NULL,  -- products.id in catalog_db
    `quantity`   integer NOT NULL,  -- number of pieces, 1 or more
    `unit_price` numeric(12, 2) NOT NULL,  -- price of one piece before discount, UAH
    `discount`   numeric(12, 2) NOT NULL,  -- discount on the whole line, UAH
    CONSTRAINT `order_items_order_product` UNIQUE (`order_id`, `product_id`),
    CONSTRAINT `order_items_order_id_412ad78b_fk_orders_id` FOREIGN KEY (`order_id`) REFERENCES `orders` (`id`)
);
CREATE INDEX `order_items_updated_at_fbffebc6` ON `order_items` (`updated_at`);
CREATE INDEX `order_items_product_id_dd557d5a` ON `order_items` (`product_id`);

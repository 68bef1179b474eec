-- payments_db: payments and refunds. For MySQL 8.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.

-- A payment attempt or a refund. A refund is a row of its own; the payment that it returns stays captured.
CREATE TABLE `payments` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- assigned by the database, never reused
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was created
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's clock; incremental runs rely on it
    `order_id`   bigint NOT NULL,  -- orders.id in orders_db
    `method`     varchar(20) NOT NULL,  -- payment method (card | paypal | bank_transfer | cash)
    `status`     varchar(20) NOT NULL,  -- captured: money received; refunded: money returned by this row (pending | captured | failed | refunded)
    `amount`     numeric(12, 2) NOT NULL,  -- always positive, UAH
    `paid_at`    datetime(6) NULL  -- when the money was received or returned; empty until then
);
CREATE INDEX `payments_updated_at_78aac9e9` ON `payments` (`updated_at`);
CREATE INDEX `payments_order_id_6086ad70` ON `payments` (`order_id`);

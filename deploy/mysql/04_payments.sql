-- payments_db: what was paid. For MySQL 8.
-- Made from the models by `manage.py export_schema`, to be read. The tables themselves are made by `manage.py migrate_all`,
-- which remembers that it did.

-- One attempt to pay, or one refund. A refund is a row of its own; the captured row that it gives back stays captured.
CREATE TABLE `payments` (
    `id`         bigint AUTO_INCREMENT NOT NULL PRIMARY KEY,  -- given by the database, never given again
    `created_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL,  -- when the row was made
    `updated_at` datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),  -- when the row last changed, by the database's own clock; incremental runs go by it
    `order_id`   bigint NOT NULL,  -- orders.id in orders_db
    `method`     varchar(20) NOT NULL,  -- how it was paid (card | paypal | bank_transfer | cash)
    `status`     varchar(20) NOT NULL,  -- captured: the money came; refunded: this row gives money back (pending | captured | failed | refunded)
    `amount`     numeric(12, 2) NOT NULL,  -- UAH, always positive
    `paid_at`    datetime(6) NULL  -- when the money came or went; empty until then
);
CREATE INDEX `payments_updated_at_78aac9e9` ON `payments` (`updated_at`);
CREATE INDEX `payments_order_id_6086ad70` ON `payments` (`order_id`);

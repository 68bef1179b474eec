-- dwh: the star schema of sales: what was sold, when, where, to whom and by whom. For PostgreSQL 15.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.

-- Grain: one calendar day of the shop, key YYYYMMDD.
CREATE TABLE "dim_date" (
    "run_id"      bigint NOT NULL,  -- run that last wrote the row
    "is_deleted"  boolean NOT NULL,  -- the source row no longer exists
    "is_inferred" boolean NOT NULL,  -- created for a fact that arrived before the source row; a later run fills it in
    "date_key"    integer NOT NULL PRIMARY KEY,  -- day as YYYYMMDD; -1 unknown, -2 not applicable
    "date"        date NULL UNIQUE,  -- day of the shop's calendar
    "year"        integer NULL,  -- four digits
    "quarter"     integer NULL,  -- 1 to 4
    "month"       integer NULL,  -- 1 to 12
    "month_name"  varchar(20) NOT NULL,  -- in English
    "iso_week"    integer NULL,  -- 1 to 53, ISO 8601: weeks begin on Monday
    "day"         integer NULL,  -- day of the month, 1 to 31
    "day_of_week" integer NULL,  -- 1 is Monday
    "is_weekend"  boolean NOT NULL,  -- Saturday or Sunday
    "is_holiday"  boolean NOT NULL  -- public holiday of Ukraine
);

-- Grain: one region.
CREATE TABLE "dim_region" (
    "run_id"      bigint NOT NULL,  -- run that last wrote the row
    "is_deleted"  boolean NOT NULL,  -- the source row no longer exists
    "is_inferred" boolean NOT NULL,  -- created for a fact that arrived before the source row; a later run fills it in
    "region_key"  integer NOT NULL PRIMARY KEY,  -- surrogate key, assigned once and never changed; -1 unknown, -2 not applicable
    "region_id"   bigint NULL UNIQUE,  -- natural key: regions.id
    "code"        varchar(10) NOT NULL,  -- short stable code, for filters
    "name"        varchar(120) NOT NULL  -- name of the region
);

-- Grain: one category. A root category has *Not applicable* as its parent and its own name as root name.
CREATE TABLE "dim_category" (
    "run_id"              bigint NOT NULL,  -- run that last wrote the row
    "is_deleted"          boolean NOT NULL,  -- the source row no longer exists
    "is_inferred"         boolean NOT NULL,  -- created for a fact that arrived before the source row; a later run fills it in
    "category_key"        integer NOT NULL PRIMARY KEY,  -- surrogate key, assigned once and never changed; -1 unknown, -2 not applicable
    "category_id"         bigint NULL UNIQUE,  -- natural key: categories.id
    "name"                varchar(120) NOT NULL,  -- name of the category
    "parent_category_key" integer NOT NULL,  -- dim_category.category_key of the parent; -2 for a root
    "root_name"           varchar(120) NOT NULL  -- name of its root category
);

-- Grain: one product.
CREATE TABLE "dim_product" (
    "run_id"             bigint NOT NULL,  -- run that last wrote the row
    "is_deleted"         boolean NOT NULL,  -- the source row no longer exists
    "is_inferred"        boolean NOT NULL,  -- created for a fact that arrived before the source row; a later run fills it in
    "product_key"        integer NOT NULL PRIMARY KEY,  -- surrogate key, assigned once and never changed; -1 unknown, -2 not applicable
    "product_id"         bigint NULL UNIQUE,  -- natural key: products.id
    "name"               varchar(200) NOT NULL,  -- name shown to customers
    "sku"                varchar(40) NOT NULL,  -- stock keeping unit: the shop's own product number
    "category_key"       integer NOT NULL,  -- category of the product today
    "category_name"      varchar(120) NOT NULL,  -- name of its category
    "root_category_name" varchar(120) NOT NULL,  -- name of its root category
    "price"              numeric(12, 2) NULL,  -- price of one piece today, UAH
    "cost"               numeric(12, 2) NULL,  -- cost of one piece to the shop today, UAH
    "status"             varchar(20) NOT NULL,  -- active (on sale) or inactive
    CONSTRAINT "dim_product_category_key_261cd4d5_fk_dim_category_category_key" FOREIGN KEY ("category_key") REFERENCES "dim_category" ("category_key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "dim_product_category_key_261cd4d5" ON "dim_product" ("category_key");

-- Grain: one customer, with the status of the account in auth_db.
CREATE TABLE "dim_customer" (
    "run_id"         bigint NOT NULL,  -- run that last wrote the row
    "is_deleted"     boolean NOT NULL,  -- the source row no longer exists
    "is_inferred"    boolean NOT NULL,  -- created for a fact that arrived before the source row; a later run fills it in
    "customer_key"   integer NOT NULL PRIMARY KEY,  -- surrogate key, assigned once and never changed; -1 unknown, -2 not applicable
    "customer_id"    bigint NULL UNIQUE,  -- natural key: customers.id
    "first_name"     varchar(80) NOT NULL,  -- given name
    "last_name"      varchar(80) NOT NULL,  -- family name
    "email"          varchar(254) NOT NULL,  -- email address
    "region_key"     integer NOT NULL,  -- region of the customer
    "account_status" varchar(20) NOT NULL,  -- auth_users.status, or 'none' without an account
    "registered_at"  timestamp with time zone NULL,  -- when the customer was created in the shop
    CONSTRAINT "dim_customer_region_key_79ddef91_fk_dim_region_region_key" FOREIGN KEY ("region_key") REFERENCES "dim_region" ("region_key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "dim_customer_region_key_79ddef91" ON "dim_customer" ("region_key");

-- Grain: one employee, with the roles of the account in auth_db.
CREATE TABLE "dim_employee" (
    "run_id"       bigint NOT NULL,  -- run that last wrote the row
    "is_deleted"   boolean NOT NULL,  -- the source row no longer exists
    "is_inferred"  boolean NOT NULL,  -- created for a fact that arrived before the source row; a later run fills it in
    "employee_key" integer NOT NULL PRIMARY KEY,  -- surrogate key, assigned once and never changed; -1 unknown, -2 not applicable
    "employee_id"  bigint NULL UNIQUE,  -- natural key: employees.id
    "first_name"   varchar(80) NOT NULL,  -- given name
    "last_name"    varchar(80) NOT NULL,  -- family name
    "email"        varchar(254) NOT NULL,  -- email address
    "region_key"   integer NOT NULL,  -- region of the employee
    "is_manager"   boolean NOT NULL,  -- whether the employee is a manager
    "hired_at"     date NULL,  -- first day at work
    "roles"        varchar(80) NOT NULL,  -- names of the roles in auth_db, separated by commas
    CONSTRAINT "dim_employee_region_key_e4ff750b_fk_dim_region_region_key" FOREIGN KEY ("region_key") REFERENCES "dim_region" ("region_key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "dim_employee_region_key_e4ff750b" ON "dim_employee" ("region_key");

-- Grain: one order line of a recognised sale (its order is paid or shipped). Money is UAH. On PostgreSQL the table has one
-- partition, the root, which has one for each range of order ids. A first load prepares these where nobody looks and swaps a new
-- root in under one short lock; grants and views belong to the table and stay.
CREATE TABLE "fact_sales" (
    "order_item_id"   bigint NOT NULL,  -- natural key: order_items.id
    "order_id"        bigint NOT NULL,  -- orders.id: the order of the line
    "order_status"    varchar(20) NOT NULL,  -- paid or shipped
    "payment_method"  varchar(20) NOT NULL,  -- the single captured method, 'mixed', or 'none'
    "date_key"        integer NOT NULL,  -- day of the order, in the shop's time zone
    "product_key"     integer NOT NULL,  -- product sold
    "category_key"    integer NOT NULL,  -- category of the product today; changes when the product moves
    "customer_key"    integer NOT NULL,  -- customer who bought
    "employee_key"    integer NOT NULL,  -- employee who sold; -2 for a web order
    "region_key"      integer NOT NULL,  -- region where it was sold
    "quantity"        integer NOT NULL,  -- pieces
    "gross_amount"    numeric(24, 2) NOT NULL,  -- unit price x quantity
    "discount_amount" numeric(24, 2) NOT NULL,  -- discount on the whole line
    "net_amount"      numeric(24, 2) NOT NULL,  -- gross - discount
    "unit_cost"       numeric(12, 2) NULL,  -- product cost at the line's first load; stays when the cost changes, and when the line leaves and returns
    "cost_amount"     numeric(24, 2) NULL,  -- unit cost x quantity
    "margin_amount"   numeric(24, 2) NULL,  -- net - cost
    "paid_amount"     numeric(24, 2) NOT NULL,  -- captured - refunded payments of the order, allocated by net amount
    "paid_at"         timestamp with time zone NULL,  -- time of the last captured payment
    "ordered_at"      timestamp with time zone NOT NULL,  -- time of the order, in UTC
    "run_id"          bigint NOT NULL,  -- run that last wrote the row
    CONSTRAINT "fact_sales_date_key_50234ed5_fk_dim_date_date_key" FOREIGN KEY ("date_key") REFERENCES "dim_date" ("date_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_product_key_148bd2c5_fk_dim_product_product_key" FOREIGN KEY ("product_key") REFERENCES "dim_product" ("product_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_category_key_c4a3af8a_fk_dim_category_category_key" FOREIGN KEY ("category_key") REFERENCES "dim_category" ("category_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_customer_key_1ac52e72_fk_dim_customer_customer_key" FOREIGN KEY ("customer_key") REFERENCES "dim_customer" ("customer_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_employee_key_fd97adba_fk_dim_employee_employee_key" FOREIGN KEY ("employee_key") REFERENCES "dim_employee" ("employee_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_region_key_73aa79a6_fk_dim_region_region_key" FOREIGN KEY ("region_key") REFERENCES "dim_region" ("region_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT fact_sales_pkey PRIMARY KEY (order_item_id, order_id)
) PARTITION BY RANGE ("order_item_id");
CREATE TABLE fact_sales_0 PARTITION OF fact_sales FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE INDEX "fact_sales_order_id_0f73a315" ON "fact_sales" ("order_id");
CREATE INDEX "fact_sales_date_key_50234ed5" ON "fact_sales" ("date_key");
CREATE INDEX "fact_sales_product_key_148bd2c5" ON "fact_sales" ("product_key");

-- Grain: one line that has left a fact, with the unit cost that it had. A line that returns with the same product takes it again.
CREATE TABLE "etl_line_cost" (
    "id"         bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,  -- surrogate key
    "fact"       varchar(40) NOT NULL,  -- table of the fact
    "line_id"    bigint NOT NULL,  -- key of the line in the fact
    "product_id" bigint NOT NULL,  -- products.id: the product sold
    "unit_cost"  numeric(12, 2) NOT NULL,  -- product cost at the line's first load
    CONSTRAINT "one_cost_per_line" UNIQUE ("fact", "line_id")
);

-- Grain: one order of the sources, sold or not, or an order that only lines or payments name. Written with the rows read of it. The
-- order is read again when the sources' fingerprint is another one: that is how a change is found that left `updated_at` as it was,
-- and how a deletion is.
CREATE TABLE "etl_order" (
    "order_id"      bigint NOT NULL PRIMARY KEY,  -- orders.id; -2^62 for lines and payments that name no order
    "sales"         bigint NOT NULL,  -- sum over the order and its lines: CRC-32 of the columns read, plus 2^32
    "payments"      bigint NOT NULL,  -- the same sum over the payments of the order
    "look_again_at" timestamp with time zone NULL  -- when an order that is dated in the future ceases to be; it is read again then
);
CREATE INDEX "etl_order_due" ON "etl_order" ("look_again_at") WHERE "look_again_at" IS NOT NULL;

-- Grain: 1 024 orders, by order id / 1024: when the sources' fingerprints of them were last compared, and the sum of their facts.
CREATE TABLE "etl_segment" (
    "segment"   bigint NOT NULL PRIMARY KEY,  -- order id / 1024, rounded towards zero
    "proven_at" timestamp with time zone NULL,  -- when, by the sources' clocks, each order of it was last as it had been read
    "star"      bigint NOT NULL  -- sum of the hashes of the segment's facts as they were written: tells changes by another hand
);

-- Grain: one published run. Written in the same transaction as the run's rows, so it exists if and only if they do.
CREATE TABLE "etl_load" (
    "run_uuid"        uuid NOT NULL PRIMARY KEY,  -- identifies the run even after the control database was recreated
    "sequence"        bigint NOT NULL UNIQUE,  -- 1, 2, 3 ...: the order of publication, whatever clocks say
    "run_id"          bigint NOT NULL,  -- number of the run in the ledger
    "mode"            varchar(20) NOT NULL,  -- full or incremental
    "window_start"    timestamp with time zone NULL,  -- inclusive; empty for a full run
    "window_end"      timestamp with time zone NULL,  -- exclusive; empty for a full run
    "high_water_mark" timestamp with time zone NULL,  -- changes before this instant, by the sources' clocks, are in the warehouse
    "counts"          jsonb NOT NULL,  -- rows by table: inserted, updated, unchanged, deleted, derived
    "fingerprints"    jsonb NOT NULL,  -- by dimension and slice: fingerprints of the source rows as they were read and of the rows as they were written
    "rules"           varchar(64) NOT NULL,  -- digest of the declarations and rules under which all rows were read
    "published_at"    timestamp with time zone NOT NULL  -- when the rows were written, by the control database's clock
);
CREATE INDEX "etl_load_run_id_193b816c" ON "etl_load" ("run_id");
CREATE INDEX "etl_load_published_at_4b14a7b9" ON "etl_load" ("published_at");

-- Grain: one surrogate key, given to a natural key whose dimension row is not published yet. The publication of the row deletes it.
CREATE TABLE "etl_reserved_key" (
    "id"         bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,  -- surrogate key
    "dimension"  varchar(40) NOT NULL,  -- table of the dimension
    "member_id"  bigint NOT NULL,  -- id of the member in its source
    "member_key" bigint NOT NULL,  -- surrogate key that its row will have
    CONSTRAINT "one_reserved_key_per_member" UNIQUE ("dimension", "member_id"),
    CONSTRAINT "one_member_per_reserved_key" UNIQUE ("dimension", "member_key")
);

-- Grain: one range of orders of a fact that a run has prepared. Its rows are in a table of this schema, `relation`. The two are
-- written in one transaction. The publication of the run deletes the row; of an unsuccessful run the table is dropped with it.
CREATE TABLE "etl_prepared" (
    "id"           bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,  -- surrogate key
    "run_uuid"     uuid NOT NULL,  -- identifies the run
    "run_id"       bigint NOT NULL,  -- number of the run in the ledger
    "fact"         varchar(40) NOT NULL,  -- table of the fact
    "low"          bigint NULL,  -- first order id of the range; empty: from the beginning
    "high"         bigint NULL,  -- order id after the last one; empty: to the end
    "relation"     varchar(63) NOT NULL,  -- table with the prepared rows
    "is_partition" boolean NOT NULL,  -- the table holds all rows of the range and becomes a partition; otherwise it holds what differs
    "findings"     jsonb NOT NULL,  -- counts and sums of the rows, and what the publication has to add for them
    "created_at"   timestamp with time zone DEFAULT (STATEMENT_TIMESTAMP()) NOT NULL  -- when it was prepared, by the warehouse's clock
);
CREATE INDEX "etl_prepared_run_uuid_3ad4a5c3" ON "etl_prepared" ("run_uuid");

CREATE VIEW kpi_orders AS
SELECT
    s.date_key,
    s.date,
    s.year,
    s.month,
    s.region_key,
    r.code AS region_code,
    r.name AS region,
    s.employee_key,
    CASE WHEN e.employee_key < 0 THEN e.last_name ELSE e.first_name || ' ' || e.last_name END AS manager,
    s.payment_method,
    s.orders,
    s.gross_amount,
    s.discount_amount,
    s.net_amount,
    s.margin_amount,
    s.paid_amount,
    s.outstanding_amount,
    s.outstanding_orders,
    s.overpaid_amount,
    s.overpaid_orders
FROM (
    SELECT
        o.date_key,
        o.date,
        o.year,
        o.month,
        o.region_key,
        o.employee_key,
        o.payment_method,
        CAST(count(*) AS integer) AS orders,
        round(sum(o.gross_amount), 2) AS gross_amount,
        round(sum(o.discount_amount), 2) AS discount_amount,
        round(sum(o.net_amount), 2) AS net_amount,
        coalesce(round(sum(o.margin_amount), 2), 0) AS margin_amount,
        round(sum(o.paid_amount), 2) AS paid_amount,
        round(sum(CASE WHEN o.balance > 0 THEN o.balance ELSE 0 END), 2) AS outstanding_amount,
        CAST(count(CASE WHEN o.balance > 0 THEN 1 END) AS integer) AS outstanding_orders,
        round(sum(CASE WHEN o.balance < 0 THEN -o.balance ELSE 0 END), 2) AS overpaid_amount,
        CAST(count(CASE WHEN o.balance < 0 THEN 1 END) AS integer) AS overpaid_orders
    FROM (
        SELECT
            f.date_key,
            d.date,
            d.year,
            d.month,
            f.region_key,
            f.employee_key,
            f.payment_method,
            sum(f.gross_amount) AS gross_amount,
            sum(f.discount_amount) AS discount_amount,
            sum(f.net_amount) AS net_amount,
            sum(f.margin_amount) AS margin_amount,
            sum(f.paid_amount) AS paid_amount,
            round(sum(f.net_amount) - sum(f.paid_amount), 2) AS balance
        FROM fact_sales AS f
        JOIN dim_date AS d ON d.date_key = f.date_key
        GROUP BY f.order_id, f.date_key, d.date_key, d.date, d.year, d.month, f.region_key, f.employee_key, f.payment_method
    ) AS o
    GROUP BY o.date_key, o.date, o.year, o.month, o.region_key, o.employee_key, o.payment_method
) AS s
JOIN dim_region AS r ON r.region_key = s.region_key
JOIN dim_employee AS e ON e.employee_key = s.employee_key;
COMMENT ON VIEW kpi_orders IS 'Sales by day, region, manager and payment method. An order has one of each, so its lines are in one row and orders add up over any rows.';
COMMENT ON COLUMN kpi_orders.date_key IS 'day of the order as YYYYMMDD';
COMMENT ON COLUMN kpi_orders.date IS 'day of the order, in the shop''s time zone';
COMMENT ON COLUMN kpi_orders.year IS 'year of the day, four digits';
COMMENT ON COLUMN kpi_orders.month IS 'month of the day, 1 to 12';
COMMENT ON COLUMN kpi_orders.region_key IS 'dim_region.region_key';
COMMENT ON COLUMN kpi_orders.region_code IS 'short code of the region where it was sold';
COMMENT ON COLUMN kpi_orders.region IS 'name of the region where it was sold';
COMMENT ON COLUMN kpi_orders.employee_key IS 'dim_employee.employee_key; -2 where no employee took part (web order)';
COMMENT ON COLUMN kpi_orders.manager IS 'name of the employee who sold';
COMMENT ON COLUMN kpi_orders.payment_method IS 'the single captured method, ''mixed'', or ''none''';
COMMENT ON COLUMN kpi_orders.orders IS 'number of orders';
COMMENT ON COLUMN kpi_orders.gross_amount IS 'unit price x quantity, UAH';
COMMENT ON COLUMN kpi_orders.discount_amount IS 'discount, UAH';
COMMENT ON COLUMN kpi_orders.net_amount IS 'net revenue: gross - discount, UAH';
COMMENT ON COLUMN kpi_orders.margin_amount IS 'net - cost of the lines whose cost is known, UAH';
COMMENT ON COLUMN kpi_orders.paid_amount IS 'captured - refunded payments, UAH';
COMMENT ON COLUMN kpi_orders.outstanding_amount IS 'net - paid of the orders that are paid less than their net, UAH';
COMMENT ON COLUMN kpi_orders.outstanding_orders IS 'number of these orders';
COMMENT ON COLUMN kpi_orders.overpaid_amount IS 'paid - net of the orders that are paid more than their net, UAH';
COMMENT ON COLUMN kpi_orders.overpaid_orders IS 'number of these orders';

CREATE VIEW kpi_lines AS
SELECT
    f.date_key,
    d.date,
    d.year,
    d.month,
    f.region_key,
    r.code AS region_code,
    r.name AS region,
    f.order_id,
    f.product_key,
    p.name AS product,
    f.category_key,
    c.name AS category,
    f.gross_amount,
    f.discount_amount,
    f.net_amount,
    f.margin_amount,
    f.paid_amount
FROM fact_sales AS f
LEFT JOIN dim_date AS d ON d.date_key = f.date_key
LEFT JOIN dim_region AS r ON r.region_key = f.region_key
LEFT JOIN dim_product AS p ON p.product_key = f.product_key
LEFT JOIN dim_category AS c ON c.category_key = f.category_key;
COMMENT ON VIEW kpi_lines IS 'Order lines with their day, region, product and category. Orders are count(DISTINCT order_id); by product or category they do not add up, since an order may have several of them.';
COMMENT ON COLUMN kpi_lines.date_key IS 'day of the order as YYYYMMDD';
COMMENT ON COLUMN kpi_lines.date IS 'day of the order, in the shop''s time zone';
COMMENT ON COLUMN kpi_lines.year IS 'year of the day, four digits';
COMMENT ON COLUMN kpi_lines.month IS 'month of the day, 1 to 12';
COMMENT ON COLUMN kpi_lines.region_key IS 'dim_region.region_key';
COMMENT ON COLUMN kpi_lines.region_code IS 'short code of the region where it was sold';
COMMENT ON COLUMN kpi_lines.region IS 'name of the region where it was sold';
COMMENT ON COLUMN kpi_lines.order_id IS 'orders.id: the order of the line';
COMMENT ON COLUMN kpi_lines.product_key IS 'dim_product.product_key';
COMMENT ON COLUMN kpi_lines.product IS 'name of the product';
COMMENT ON COLUMN kpi_lines.category_key IS 'dim_category.category_key';
COMMENT ON COLUMN kpi_lines.category IS 'name of the product''s category';
COMMENT ON COLUMN kpi_lines.gross_amount IS 'unit price x quantity, UAH';
COMMENT ON COLUMN kpi_lines.discount_amount IS 'discount, UAH';
COMMENT ON COLUMN kpi_lines.net_amount IS 'net revenue: gross - discount, UAH';
COMMENT ON COLUMN kpi_lines.margin_amount IS 'net - cost, UAH; empty where the cost is unknown';
COMMENT ON COLUMN kpi_lines.paid_amount IS 'the line''s share of captured - refunded payments, UAH';

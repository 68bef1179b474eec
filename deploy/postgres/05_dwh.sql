-- dwh: the star; what was sold, when, where, to whom and through whom. For PostgreSQL 15.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.

-- Grain: one calendar day of the shop, key YYYYMMDD.
CREATE TABLE "dim_date" (
    "run_id"      bigint NOT NULL,  -- the run that last wrote the row
    "is_deleted"  boolean NOT NULL,  -- its source row is gone
    "is_inferred" boolean NOT NULL,  -- a fact came before the source row; filled in by a later run
    "date_key"    integer NOT NULL PRIMARY KEY,  -- the day as YYYYMMDD; -1 unknown, -2 not applicable
    "date"        date NULL UNIQUE,  -- the day, in the shop's time zone
    "year"        integer NULL,  -- four digits
    "quarter"     integer NULL,  -- 1 to 4
    "month"       integer NULL,  -- 1 to 12
    "month_name"  varchar(20) NOT NULL,  -- in English
    "iso_week"    integer NULL,  -- 1 to 53, of ISO 8601: weeks begin on Monday
    "day"         integer NULL,  -- of the month, 1 to 31
    "day_of_week" integer NULL,  -- 1 is Monday
    "is_weekend"  boolean NOT NULL,  -- Saturday or Sunday
    "is_holiday"  boolean NOT NULL  -- public holiday of Ukraine
);

-- Grain: one region.
CREATE TABLE "dim_region" (
    "run_id"      bigint NOT NULL,  -- the run that last wrote the row
    "is_deleted"  boolean NOT NULL,  -- its source row is gone
    "is_inferred" boolean NOT NULL,  -- a fact came before the source row; filled in by a later run
    "region_key"  integer NOT NULL PRIMARY KEY,  -- given once by the warehouse and kept; -1 unknown, -2 not applicable
    "region_id"   bigint NULL UNIQUE,  -- natural key: regions.id
    "code"        varchar(10) NOT NULL,  -- short and stable, for filters
    "name"        varchar(120) NOT NULL  -- as people call it
);

-- Grain: one category. A root has *Not applicable* for its parent and its own name for its root's.
CREATE TABLE "dim_category" (
    "run_id"              bigint NOT NULL,  -- the run that last wrote the row
    "is_deleted"          boolean NOT NULL,  -- its source row is gone
    "is_inferred"         boolean NOT NULL,  -- a fact came before the source row; filled in by a later run
    "category_key"        integer NOT NULL PRIMARY KEY,  -- given once by the warehouse and kept; -1 unknown, -2 not applicable
    "category_id"         bigint NULL UNIQUE,  -- natural key: categories.id
    "name"                varchar(120) NOT NULL,  -- the category's own
    "parent_category_key" integer NOT NULL,  -- dim_category.category_key of the one above; -2 for a root
    "root_name"           varchar(120) NOT NULL  -- name of the category at the top
);

-- Grain: one product.
CREATE TABLE "dim_product" (
    "run_id"             bigint NOT NULL,  -- the run that last wrote the row
    "is_deleted"         boolean NOT NULL,  -- its source row is gone
    "is_inferred"        boolean NOT NULL,  -- a fact came before the source row; filled in by a later run
    "product_key"        integer NOT NULL PRIMARY KEY,  -- given once by the warehouse and kept; -1 unknown, -2 not applicable
    "product_id"         bigint NULL UNIQUE,  -- natural key: products.id
    "name"               varchar(200) NOT NULL,  -- as customers see it
    "sku"                varchar(40) NOT NULL,  -- stock keeping unit: the shop's own number of the product
    "category_key"       integer NOT NULL,  -- where it stands in the catalog today
    "category_name"      varchar(120) NOT NULL,  -- name of its category
    "root_category_name" varchar(120) NOT NULL,  -- name of its category at the top
    "price"              numeric(12, 2) NULL,  -- of one piece today, UAH
    "cost"               numeric(12, 2) NULL,  -- what one piece costs the shop today, UAH
    "status"             varchar(20) NOT NULL,  -- active or inactive: whether it is on sale
    CONSTRAINT "dim_product_category_key_261cd4d5_fk_dim_category_category_key" FOREIGN KEY ("category_key") REFERENCES "dim_category" ("category_key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "dim_product_category_key_261cd4d5" ON "dim_product" ("category_key");

-- Grain: one customer, with the state of its account in auth_db.
CREATE TABLE "dim_customer" (
    "run_id"         bigint NOT NULL,  -- the run that last wrote the row
    "is_deleted"     boolean NOT NULL,  -- its source row is gone
    "is_inferred"    boolean NOT NULL,  -- a fact came before the source row; filled in by a later run
    "customer_key"   integer NOT NULL PRIMARY KEY,  -- given once by the warehouse and kept; -1 unknown, -2 not applicable
    "customer_id"    bigint NULL UNIQUE,  -- natural key: customers.id
    "first_name"     varchar(80) NOT NULL,  -- given name
    "last_name"      varchar(80) NOT NULL,  -- family name
    "email"          varchar(254) NOT NULL,  -- where the person is written to
    "region_key"     integer NOT NULL,  -- where the customer lives
    "account_status" varchar(20) NOT NULL,  -- auth_users.status, or 'none' without an account
    "registered_at"  timestamp with time zone NULL,  -- when the customer was first known to the shop
    CONSTRAINT "dim_customer_region_key_79ddef91_fk_dim_region_region_key" FOREIGN KEY ("region_key") REFERENCES "dim_region" ("region_key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "dim_customer_region_key_79ddef91" ON "dim_customer" ("region_key");

-- Grain: one employee, with the roles of its account in auth_db.
CREATE TABLE "dim_employee" (
    "run_id"       bigint NOT NULL,  -- the run that last wrote the row
    "is_deleted"   boolean NOT NULL,  -- its source row is gone
    "is_inferred"  boolean NOT NULL,  -- a fact came before the source row; filled in by a later run
    "employee_key" integer NOT NULL PRIMARY KEY,  -- given once by the warehouse and kept; -1 unknown, -2 not applicable
    "employee_id"  bigint NULL UNIQUE,  -- natural key: employees.id
    "first_name"   varchar(80) NOT NULL,  -- given name
    "last_name"    varchar(80) NOT NULL,  -- family name
    "email"        varchar(254) NOT NULL,  -- where the person is written to
    "region_key"   integer NOT NULL,  -- where the employee works
    "is_manager"   boolean NOT NULL,  -- leads others
    "hired_at"     date NULL,  -- first day at work
    "roles"        varchar(80) NOT NULL,  -- auth_db roles, by name, joined with commas
    CONSTRAINT "dim_employee_region_key_e4ff750b_fk_dim_region_region_key" FOREIGN KEY ("region_key") REFERENCES "dim_region" ("region_key") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "dim_employee_region_key_e4ff750b" ON "dim_employee" ("region_key");

-- Grain: one order line of a recognised sale (its order is paid or shipped). Money is UAH. On PostgreSQL the table is partitioned
-- into a single partition, so that a first load fills and indexes a table of its own and then takes its place in one short lock,
-- under the same grants and views.
CREATE TABLE "fact_sales" (
    "order_item_id"   bigint NOT NULL PRIMARY KEY,  -- natural key: order_items.id
    "order_id"        bigint NOT NULL,  -- orders.id: whose line it is
    "order_status"    varchar(20) NOT NULL,  -- paid or shipped
    "payment_method"  varchar(20) NOT NULL,  -- the single captured method, 'mixed', or 'none'
    "date_key"        integer NOT NULL,  -- business date in the shop's time zone
    "product_key"     integer NOT NULL,  -- what was sold
    "category_key"    integer NOT NULL,  -- of the product; moves when the product moves
    "customer_key"    integer NOT NULL,  -- who bought
    "employee_key"    integer NOT NULL,  -- who sold; -2 for a web order
    "region_key"      integer NOT NULL,  -- where it was sold
    "quantity"        integer NOT NULL,  -- pieces
    "gross_amount"    numeric(24, 2) NOT NULL,  -- unit price x quantity
    "discount_amount" numeric(24, 2) NOT NULL,  -- off the whole line
    "net_amount"      numeric(24, 2) NOT NULL,  -- gross - discount
    "cost_amount"     numeric(24, 2) NULL,  -- product cost x quantity, as first loaded
    "margin_amount"   numeric(24, 2) NULL,  -- net - cost
    "paid_amount"     numeric(24, 2) NOT NULL,  -- captured - refunded, the line's share by net
    "paid_at"         timestamp with time zone NULL,  -- the last captured payment
    "ordered_at"      timestamp with time zone NOT NULL,  -- when it was ordered, kept in UTC
    "run_id"          bigint NOT NULL,  -- the run that last wrote the row
    CONSTRAINT "fact_sales_date_key_50234ed5_fk_dim_date_date_key" FOREIGN KEY ("date_key") REFERENCES "dim_date" ("date_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_product_key_148bd2c5_fk_dim_product_product_key" FOREIGN KEY ("product_key") REFERENCES "dim_product" ("product_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_category_key_c4a3af8a_fk_dim_category_category_key" FOREIGN KEY ("category_key") REFERENCES "dim_category" ("category_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_customer_key_1ac52e72_fk_dim_customer_customer_key" FOREIGN KEY ("customer_key") REFERENCES "dim_customer" ("customer_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_employee_key_fd97adba_fk_dim_employee_employee_key" FOREIGN KEY ("employee_key") REFERENCES "dim_employee" ("employee_key") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "fact_sales_region_key_73aa79a6_fk_dim_region_region_key" FOREIGN KEY ("region_key") REFERENCES "dim_region" ("region_key") DEFERRABLE INITIALLY DEFERRED
) PARTITION BY RANGE ("order_item_id");
CREATE TABLE fact_sales_0 PARTITION OF fact_sales FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE INDEX "fact_sales_order_id_0f73a315" ON "fact_sales" ("order_id");
CREATE INDEX "fact_sales_date_key_50234ed5" ON "fact_sales" ("date_key");
CREATE INDEX "fact_sales_product_key_148bd2c5" ON "fact_sales" ("product_key");

-- One published run, written in the same transaction as its rows: it is here if and only if the rows are.
CREATE TABLE "etl_load" (
    "run_uuid"        uuid NOT NULL PRIMARY KEY,  -- tells runs apart even if the control database is made anew
    "run_id"          bigint NOT NULL,  -- the run's number in the ledger
    "mode"            varchar(20) NOT NULL,  -- full or incremental
    "window_start"    timestamp with time zone NULL,  -- included; empty for a full run
    "window_end"      timestamp with time zone NULL,  -- excluded; empty for a full run
    "high_water_mark" timestamp with time zone NULL,  -- changes before this instant of the sources' clocks are in the warehouse
    "counts"          jsonb NOT NULL,  -- rows by table: inserted, updated, unchanged, deleted, derived
    "fingerprints"    jsonb NOT NULL,  -- by dimension, of its slices: what their source rows were like when they were last read
    "published_at"    timestamp with time zone NOT NULL  -- when the rows were written, by the worker's clock
);
CREATE INDEX "etl_load_run_id_193b816c" ON "etl_load" ("run_id");
CREATE INDEX "etl_load_published_at_4b14a7b9" ON "etl_load" ("published_at");

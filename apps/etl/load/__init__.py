"""Clean batches into the warehouse: prepared where no reader looks, then published in one transaction with checks and a row of etl_load."""

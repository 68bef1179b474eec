"""Raw batches in, clean batches and rejected rows out. Pandas on Arrow; no database, no clock, no Django."""

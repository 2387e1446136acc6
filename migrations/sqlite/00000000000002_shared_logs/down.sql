ALTER TABLE log_partitions DROP COLUMN is_breach;
ALTER TABLE log_partitions DROP COLUMN standstill;

DROP INDEX users_without_key;
DROP INDEX users_by_name;
ALTER TABLE users DROP COLUMN name_key;
ALTER TABLE users DROP COLUMN time_zone;
ALTER TABLE users DROP COLUMN language;
DROP TABLE listings;
ALTER TABLE conversations DROP COLUMN listed_at;

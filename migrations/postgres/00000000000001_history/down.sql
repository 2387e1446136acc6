-- For development only: everything goes.
DROP VIEW messages;
DROP TABLE mails;
DROP TABLE notify_due;
DROP TABLE dead_letters;
DROP TABLE rejections;
DROP TABLE events;
DROP TABLE members;
DROP TABLE conversations;
DROP SEQUENCE user_ids;
DROP TABLE users;
DROP TABLE log_partitions;
DROP TABLE logs;
DROP TABLE deployment;

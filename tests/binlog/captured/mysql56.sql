-- MySQL 5.6.24 with log_bin_use_v1_row_events and binlog_rows_query_log_events; the session is named in front of each
-- statement. Events: mysql56.binlog, what they become: mysql56.items.
/* 1 */ CREATE DATABASE shop;
/* 1 */ CREATE TABLE shop.goods (id INT PRIMARY KEY, name VARCHAR(20), at TIMESTAMP(3) NULL) ENGINE=InnoDB;
/* 1 */ INSERT INTO shop.goods VALUES (1, 'one', NULL), (2, 'two', '2020-02-02 02:02:02.125');
/* 1 */ UPDATE shop.goods SET name = 'zwei' WHERE id = 2;
/* 1 */ DELETE FROM shop.goods WHERE id = 1;
/* 1 */ SET SESSION binlog_rows_query_log_events = OFF;
/* 1 */ XA START 'prepared';
/* 1 */ INSERT INTO shop.goods VALUES (3, 'three', NULL);
/* 1 */ XA END 'prepared';
/* 1 */ XA PREPARE 'prepared';
/* 2 */ INSERT INTO shop.goods VALUES (4, 'in between', NULL);
/* 1 */ XA COMMIT 'prepared';
/* 1 */ XA START 'given up';
/* 1 */ INSERT INTO shop.goods VALUES (5, 'never there', NULL);
/* 1 */ XA END 'given up';
/* 1 */ XA PREPARE 'given up';
/* 1 */ XA ROLLBACK 'given up';
/* 1 */ XA START 'one phase';
/* 1 */ INSERT INTO shop.goods VALUES (6, 'six', NULL);
/* 1 */ XA END 'one phase';
/* 1 */ XA COMMIT 'one phase' ONE PHASE;
/* 1 */ FLUSH BINARY LOGS;

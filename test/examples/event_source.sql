-- the shop of doc/event_source.md
CREATE SCHEMA shop;
CREATE TABLE shop.member (id int PRIMARY KEY, mobile text, full_name text, born date, created_at timestamp);
CREATE TABLE shop.orders (id int PRIMARY KEY, member_id int, paid_at timestamp, state text, total numeric, channel text, shop int);
INSERT INTO shop.member VALUES (1, '138 0013 8000', 'Li Lei', '1990-05-06', '2024-01-01 08:00');
INSERT INTO shop.orders VALUES (1, 1, '2024-02-01 10:00', 'completed', 100, 'app', 3);

CREATE SCHEMA example_shop;
CREATE TABLE example_shop.orders (buyer bigint, bought_on date, total numeric);
INSERT INTO example_shop.orders VALUES (1, '2025-12-20', 250), (1, '2025-10-02', 90), (2, '2025-12-30', 30), (3, '2025-06-18', 900);

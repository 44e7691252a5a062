-- the database that the README's reader already has
CREATE TABLE members (id int PRIMARY KEY, full_name text, mobile text, created_at timestamp);
CREATE TABLE orders (id int PRIMARY KEY, member_id int, paid_at timestamp, state text, total numeric);
INSERT INTO members VALUES (7, '王芳', '138 0000 0007', '2026-01-05 10:00'), (8, '李伟', '139-0000-0008', '2026-02-01 09:00');
INSERT INTO orders VALUES (1, 7, '2026-02-01 12:00', 'completed', 199), (2, 7, '2026-03-01 12:00', 'completed', 88), (3, 8, '2026-03-02 12:00', 'paid', 20);

-- 3,000 customers as doc/value_model.md wants them: weeks since the first purchase
CREATE SCHEMA example_shop;
CREATE TABLE example_shop.summary (customer_id bigint, x float8, t_x float8, t_cal float8, mean_amount float8, log_gaps float8);
DO $$
DECLARE
	rate float8; leaves float8; size float8; at float8; gap float8; s example_shop.summary;
BEGIN
	PERFORM setseed(0.42);
	FOR i IN 1 .. 3000 LOOP
		rate := -ln(1 - random()) / 12; leaves := sin(pi() * random() / 2) ^ 2;
		size := -(ln(1 - random()) + ln(1 - random()) + ln(1 - random()) + ln(1 - random())) / 30;
		s := (i, 0, 0, 26 + i % 52, NULL, 0); at := 0;
		LOOP
			EXIT WHEN random() < leaves;
			gap := greatest(round((-ln(1 - random()) / rate)::numeric * 7), 1) / 7;
			EXIT WHEN at + gap > s.t_cal;
			at := at + gap;
			s.x := s.x + 1; s.t_x := at; s.log_gaps := s.log_gaps + ln(gap);
			s.mean_amount := coalesce(s.mean_amount, 0) - (ln(1 - random()) + ln(1 - random())) / size;
		END LOOP;
		s.mean_amount := s.mean_amount / s.x;
		INSERT INTO example_shop.summary SELECT s.*;
	END LOOP;
END $$;
CREATE TABLE example_shop.donors (x float8, t_x float8, n float8, donors float8);
INSERT INTO example_shop.donors VALUES (0, 0, 3, 520), (1, 1, 3, 140), (1, 2, 3, 60), (1, 3, 3, 55), (2, 2, 3, 90), (2, 3, 3, 105), (3, 3, 3, 210);
CREATE TABLE example_shop.contracts (period int, churned boolean, customers float8);
INSERT INTO example_shop.contracts VALUES (1, true, 369), (2, true, 163), (3, true, 86), (4, true, 56), (4, false, 326);

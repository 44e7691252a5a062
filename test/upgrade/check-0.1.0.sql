-- What 0.1.0 left is sound under the rules of today, and nobody changes customer by the update.
DO $$
DECLARE
	n bigint;
BEGIN
	IF EXISTS (SELECT FROM cdp.verify_identity()) THEN
		RAISE EXCEPTION 'identity is not sound: %', (SELECT string_agg(check_name || ' ' || detail, '; ') FROM cdp.verify_identity());
	END IF;
	SELECT count(*) INTO n FROM cdp.identity_link l JOIN cdp.identifier a ON a.identifier_id = l.identifier_a
		JOIN cdp.identifier b ON b.identifier_id = l.identifier_b AND b.profile_id = a.profile_id;
	IF n <> 10 THEN
		RAISE EXCEPTION '% pairs inside of profiles, not 10', n;
	ELSIF EXISTS (SELECT FROM cdp.recheck_identity()) THEN
		RAISE EXCEPTION 'a re-check would move %', (SELECT string_agg(r::text, ' ') FROM cdp.recheck_identity() r);
	ELSIF cdp.resolve('phone', '+8613800000051') <> 5 OR (SELECT traits ->> 'name' FROM cdp.customer WHERE customer_id = 5) IS NULL THEN
		RAISE EXCEPTION 'customer 5 lost his phone or his name';
	ELSIF (SELECT count(*) FROM cdp.identifier_kind WHERE blocked_values <> '{}') <> 9 THEN
		RAISE EXCEPTION 'the kinds have no presets';
	END IF;
END $$;

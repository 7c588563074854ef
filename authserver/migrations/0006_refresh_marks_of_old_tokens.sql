-- The marks of tokens that the previous version has issued. Apart from the migration before, so that the tables are not
-- locked meanwhile. Only the time of the last rotation is known; earlier ones are dated just before it.
UPDATE refresh_tokens t
    SET issued_at = g.rotated_at - (g.generation - t.generation),
        used_at = CASE WHEN t.generation < g.generation THEN g.rotated_at - (g.generation - 1 - t.generation) END,
        successor_used = t.generation < g.generation - 1,
        parent = (SELECT p.hash FROM refresh_tokens p
                  WHERE p.grant_id = t.grant_id AND p.generation = t.generation - 1
                  ORDER BY p.hash LIMIT 1)
    FROM grants g
    WHERE g.id = t.grant_id AND t.issued_at IS NULL;

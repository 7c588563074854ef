-- Of clients that registered themselves: the network that they came from, and whether a user has ever signed in with
-- them. What an earlier version registered counts as used.
ALTER TABLE clients
    ADD COLUMN network            text,
    ADD COLUMN used               boolean NOT NULL DEFAULT true,
-- The hash of the token by which such a client is managed (RFC 7592).
    ADD COLUMN registration_token bytea;
CREATE INDEX clients_never_used ON clients (last_used_at) WHERE origin = 'dynamic' AND NOT used;
CREATE INDEX clients_never_used_of_network ON clients (network, last_used_at)
    WHERE origin = 'dynamic' AND NOT used;

-- How many clients have registered themselves, and how many of each network were never used. The first number has no
-- network; whoever adds or removes such a client locks it before any other.
CREATE TABLE registration_counts (
    network text PRIMARY KEY,
    clients bigint NOT NULL
);
CREATE INDEX registration_counts_clients ON registration_counts (clients);

-- Triggers, because the previous version adds and removes clients, too. Many are removed by one statement, so that is
-- counted once.
CREATE FUNCTION count_registration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO registration_counts AS counts (network, clients)
        SELECT network, sum(change) FROM (VALUES
            ('', CASE WHEN NEW.origin = 'dynamic' THEN 1 ELSE 0 END),
            ('', CASE WHEN OLD.origin = 'dynamic' THEN -1 ELSE 0 END),
            (NEW.network, CASE WHEN NEW.origin = 'dynamic' AND NOT NEW.used THEN 1 ELSE 0 END),
            (OLD.network, CASE WHEN OLD.origin = 'dynamic' AND NOT OLD.used THEN -1 ELSE 0 END)
        ) AS changes (network, change)
        WHERE network IS NOT NULL GROUP BY network HAVING sum(change) <> 0 ORDER BY network
        ON CONFLICT (network) DO UPDATE SET clients = counts.clients + EXCLUDED.clients;
    DELETE FROM registration_counts WHERE network = OLD.network AND clients <= 0;
    RETURN NULL;
END $$;
CREATE TRIGGER count_new_registration AFTER INSERT ON clients
    FOR EACH ROW EXECUTE FUNCTION count_registration();
CREATE TRIGGER count_changed_registration AFTER UPDATE ON clients
    FOR EACH ROW WHEN (OLD.used <> NEW.used OR OLD.origin <> NEW.origin)
    EXECUTE FUNCTION count_registration();

CREATE FUNCTION count_removed_registrations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO registration_counts AS counts (network, clients)
        SELECT network, -count(*) FROM (
            SELECT '' AS network FROM removed WHERE origin = 'dynamic'
            UNION ALL
            SELECT network FROM removed WHERE origin = 'dynamic' AND NOT used AND network IS NOT NULL
        ) AS changes
        GROUP BY network ORDER BY network
        ON CONFLICT (network) DO UPDATE SET clients = counts.clients + EXCLUDED.clients;
    DELETE FROM registration_counts
        WHERE clients <= 0 AND network = ANY(ARRAY(SELECT network FROM removed WHERE NOT used));
    RETURN NULL;
END $$;
CREATE TRIGGER count_removed_registrations AFTER DELETE ON clients
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION count_removed_registrations();
INSERT INTO registration_counts SELECT '', count(*) FROM clients WHERE origin = 'dynamic';

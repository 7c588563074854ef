-- Whose clients may get tokens for a resource. `sweep`: grants of clients that it no longer admits are still to be
-- removed; no statement that issues, refreshes or introspects takes them for valid meanwhile.
ALTER TABLE resources
    ADD COLUMN all_namespaces  boolean NOT NULL DEFAULT false,
    ADD COLUMN namespaces      text[]  NOT NULL DEFAULT '{}',
    ADD COLUMN self_registered boolean NOT NULL DEFAULT false,
    ADD COLUMN sweep           boolean NOT NULL DEFAULT false;

-- The namespace that a declared client belongs to, also in its metadata.
ALTER TABLE clients ADD COLUMN namespace text;

-- Resources that a client no longer names: its grants for them are refused at once, and follow in batches.
ALTER TABLE clients ADD COLUMN narrowed text[] NOT NULL DEFAULT '{}';
CREATE INDEX clients_narrowed ON clients (client_id) WHERE narrowed <> '{}';

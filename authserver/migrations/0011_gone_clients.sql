-- A client that goes is marked first; its grants follow in batches, and it goes with the last.
ALTER TABLE clients ADD COLUMN gone boolean NOT NULL DEFAULT false;
CREATE INDEX clients_gone ON clients (client_id) WHERE gone;

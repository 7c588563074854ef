-- The key under which two spellings of one URI are equal: scheme and host in lower case, no default port,
-- no trailing slash. What is stored has that form already, but for the slash. Of equal ones that are there,
-- the first keeps the key; the others conflict when they are put next. A version that does not know the
-- column leaves it empty.
ALTER TABLE resources ADD COLUMN canonical text;
UPDATE resources SET canonical = regexp_replace(resource, '/$', '')
    WHERE id IN (
        SELECT DISTINCT ON (regexp_replace(resource, '/$', '')) id FROM resources
        ORDER BY regexp_replace(resource, '/$', ''), id
    );
CREATE UNIQUE INDEX resources_canonical ON resources (canonical);

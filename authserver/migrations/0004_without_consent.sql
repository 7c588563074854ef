-- Where trusted clients are declared that users are not asked about; {} is nowhere.
ALTER TABLE resources ADD COLUMN without_consent jsonb NOT NULL DEFAULT '{}';

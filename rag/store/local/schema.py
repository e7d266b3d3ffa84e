"""The tables of a local collection's file, and how those of older versions become them."""

from __future__ import annotations

SCHEMA = 3
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (id TEXT PRIMARY KEY, source TEXT NOT NULL, hash TEXT NOT NULL,
    metadata TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE chunks (row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,
    document TEXT NOT NULL, text TEXT NOT NULL, hash TEXT NOT NULL, tokens INTEGER NOT NULL,
    title TEXT NOT NULL DEFAULT '');
CREATE INDEX chunks_by_document ON chunks (document);
CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
"""
# The marks that some scripts write vowels with belong to their words.
WORDS = """
CREATE VIRTUAL TABLE words USING fts5(text, content='',
    tokenize="porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'");
CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN
    INSERT INTO words(rowid, text) VALUES (new.row, search_terms(new.text)); END;
CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN
    INSERT INTO words(words, rowid, text) VALUES ('delete', old.row, search_terms(old.text));
    DELETE FROM vectors WHERE row = old.row; END;
"""
_FROM_SCHEMA_1 = f"""
DROP TRIGGER chunk_added;
DROP TRIGGER chunk_removed;
DROP TABLE words;
{WORDS}
INSERT INTO words(rowid, text) SELECT row, search_terms(text) FROM chunks;
"""
_FROM_SCHEMA_2 = """
ALTER TABLE chunks ADD COLUMN title TEXT NOT NULL DEFAULT '';
UPDATE meta SET value = '3' WHERE key = 'schema';
"""
# To this schema from each older one.
STEPS = {"1": _FROM_SCHEMA_1 + _FROM_SCHEMA_2, "2": _FROM_SCHEMA_2}

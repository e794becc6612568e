"""Writes what the documents take from the code: tables from the types, examples from a real run."""

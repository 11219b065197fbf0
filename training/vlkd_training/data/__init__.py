"""Data sets: one record type, loaders for each format, and the scenes generator."""

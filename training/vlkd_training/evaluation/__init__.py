"""Measures of a student or a teacher: retrieval, captions, answers, zero-shot classes."""

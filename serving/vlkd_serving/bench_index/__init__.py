"""Measure an index: how fast, how right, how large, and whether it loses anything while it is changed."""

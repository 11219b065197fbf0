"""Ladders: the comparisons of a paper as a list of short runs, run one after another and reported beside its tables."""

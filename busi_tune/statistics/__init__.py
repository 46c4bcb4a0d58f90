"""Intervals, paired comparisons and power; plain arrays in, plain numbers out."""

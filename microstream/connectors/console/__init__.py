"""Rows for a person to look at."""

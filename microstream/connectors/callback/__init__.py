"""Rows to a function of the user's."""

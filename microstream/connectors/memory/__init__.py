"""Frames of this process as a source, and sinks that keep rows in memory or only count them."""

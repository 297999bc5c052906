"""Deterministic simulation: the real driver and workers in a world where everything that can go wrong does.

`simulate(seed)` (run.py) runs one small query from its first row to its end among crashes, zombies, lost and doubled
messages, and compares what readers of committed data see with a direct computation. One seed is one run, for ever:
`python -m microstream.testing.simulation --seed 17` prints its trace.
"""

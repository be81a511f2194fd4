"""Sweeps, claims, plots, runs: tables and callables, nothing of attention."""

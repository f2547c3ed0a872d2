"""Sensors: each gathers a state, calls a pure decision, and translates the answer for Dagster."""

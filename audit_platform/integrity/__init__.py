"""Tamper evidence: what a stored event hashes to, so that a changed row shows.

Here: canonical bytes and leaf hashes of events. Knows columns by name only and imports nothing
of `audit_platform.events`, which stands above it.
"""

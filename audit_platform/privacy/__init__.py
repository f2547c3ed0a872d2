"""Redaction before the bytes of an event leave the process; pure. See `redact.py`."""

"""The event path; imports nothing here, since the producer SDK uses parts of it."""

"""The event path, from the stream to PostgreSQL; imports nothing, since the SDK uses parts of it."""

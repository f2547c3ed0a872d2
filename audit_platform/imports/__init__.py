"""Files of other systems into the stream: formats, mappings, and the import itself."""

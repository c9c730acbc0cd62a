"""What a person watches. Reads events, the journal and the chain; never the live objects."""

"""What became of requests, in numbers: records as a client sees them, and their summaries. Pure."""

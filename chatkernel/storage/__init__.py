"""Storage ports of semantic operations and their adapters."""

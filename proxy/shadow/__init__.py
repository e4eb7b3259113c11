"""Shadow traffic: a share of the live requests is mirrored to a candidate, compared pair by pair, and judged."""

"""What crosses the wire: bundles, the guard for outside JSON, whose a resource is, what is sent."""

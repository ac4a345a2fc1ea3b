"""FHIR in, decisions out: pure functions, no Flask, no HTTP, no clock, no environment."""

"""For somebody with a FHIR server and test data on it: `smartapp seed`, `connect` and `unseed`.

Nothing here is reached from production settings: only the three commands import it, and a test holds that.
"""

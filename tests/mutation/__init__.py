"""Mutation testing of the rules: does some test fail when one thing in them is wrong?

`python -m tests.mutation` changes one thing at a time, in the code of `fhir_mappings/rules` and
`local_time.py` or in a value of a rules table, and runs the tests' own assertions until one fails. What
survives is told, and explained in docs/quality.md. Nothing here is collected by pytest.
"""

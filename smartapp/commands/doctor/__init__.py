"""`smartapp doctor`: whether this app can work with an EHR, before a clinician finds out.

`examination` is the call's context; each other module looks at one thing. Everything goes through the guarded
HTTP client. Texts are ours alone: never a token, a secret, patient data, or what a server wrote.
"""

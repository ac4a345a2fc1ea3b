"""The EHR as the app sees it: what is read from it, and the one thing that is written to it."""

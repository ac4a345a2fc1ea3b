"""CDS Hooks 2.0: an EHR asks while a chart is opened, and gets one card where there is something to do."""

"""SMART App Launch: from the EHR's click to a usable token."""

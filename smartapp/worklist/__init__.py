"""The worklist: what the last sweep says of everybody, shown to each only of whom the EHR shows to them."""

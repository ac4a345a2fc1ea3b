"""Which codes are earned: dated tables and the questions asked of them."""

"""The chain: each row of the journal carries a hash of itself and of the row before it, so that a change is found."""

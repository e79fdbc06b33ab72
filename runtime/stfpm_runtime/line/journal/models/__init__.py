"""What the journal keeps of models: the active one, the states of all, and what a shadow said."""

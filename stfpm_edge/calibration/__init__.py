"""From a trained student to its decisions: the head of a product, its threshold, and what is found."""

"""How accurate recipes, heads and networks are, on products with known defects."""

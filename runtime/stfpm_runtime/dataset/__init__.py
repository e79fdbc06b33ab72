"""A product's data set: good pictures and known defects with their origin, extended from the labels of a line."""

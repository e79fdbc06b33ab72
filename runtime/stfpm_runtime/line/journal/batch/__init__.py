"""The report on an order, a shift or any other interval of a journal: the same rows give the same bytes."""

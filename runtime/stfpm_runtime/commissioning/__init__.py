"""Before the first start: a new configuration by questions, and a check of everything that a start needs."""

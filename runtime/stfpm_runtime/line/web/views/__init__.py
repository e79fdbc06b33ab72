"""What the routes read of a running line, and what they change in it."""

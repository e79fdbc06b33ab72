"""The routes of a line's API, and the values that they take and give."""

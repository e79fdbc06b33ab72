"""The web server of a line: connections and their limits, who may do what, and the application."""

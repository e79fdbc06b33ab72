"""Reports of a benchmark run: tables, charts, terminal text, Markdown and an HTML page."""

"""The line's TOML file: frozen dataclasses, one for each table. Nothing here has behaviour."""

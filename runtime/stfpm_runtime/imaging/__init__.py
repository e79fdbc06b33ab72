"""Pictures: reading files, the one preprocessing, regions and tiles, overlays."""

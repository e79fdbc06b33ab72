"""Good pictures for training: finding, reading, checking and splitting them."""

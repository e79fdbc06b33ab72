"""One worker thread for each camera, and the mailbox that holds its newest frame."""

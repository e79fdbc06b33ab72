"""Our exports compared with anomalib: `peers` is the command, the other scripts run in anomalib's environment."""

"""The method in PyTorch: teacher and student, loss, anomaly map, data, training."""

"""Checkpoint to fused ONNX graph, and the proof that the two agree."""

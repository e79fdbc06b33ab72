"""The fused ONNX graph: backbones, head, folding and precisions."""

#!/usr/bin/env bash
# A virtual environment of its own for anomalib, the reference that our speed and our import are measured against:
# its dependencies are none of ours. About 6 GB with a PyTorch for CUDA. Then, in order, with that environment's Python:
#
#   bash benchmarks/experiments/peers/setup_anomalib.sh VENV
#   VENV/bin/python benchmarks/experiments/peers/train_anomalib.py GOOD -o OUT/model.ckpt     a trained Stfpm (skip for speed alone)
#   VENV/bin/python benchmarks/experiments/peers/export_anomalib.py GOOD -o OUT               ONNX, OpenVINO, OpenVINO int8
#   PYTHONPATH=.:export:runtime VENV/bin/python benchmarks/experiments/peers/check_import.py OUT/model.ckpt GOOD
set -euo pipefail

venv=${1:?"expected the folder of the new environment, say: bash $0 ~/anomalib-venv"}
"${PYTHON:-python3}" -m venv "$venv"
# safetensors: reads a teacher; onnxruntime: runs anomalib's ONNX file; psutil: our package needs it in check_import.py.
"$venv/bin/pip" install --quiet 'anomalib[openvino]>=2.7,<3' onnxruntime psutil safetensors
"$venv/bin/pip" freeze | grep --ignore-case --extended-regexp '^(anomalib|nncf|onnx|onnxruntime|openvino|timm|torch)=='

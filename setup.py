"""stfpm-edge: one distribution with five import packages; PACKAGES names the folder of each (see CONTRIBUTING.md)."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

PACKAGES = {
    "stfpm_edge": "stfpm_edge",
    "stfpm_export": "export/stfpm_export",
    "stfpm_runtime": "runtime/stfpm_runtime",
    "stfpm_eval": "benchmarks/stfpm_eval",
    "stfpm_bench": "benchmarks/stfpm_bench",
}

VERBS = (
    "train", "pretrain", "export", "selftest", "inspect", "calibrate", "dataset", "models", "journal", "study", "users",
    "eval", "bench",
)  # fmt: skip

# Every dependency has a lowest version and a purpose. A bare install is for the device: no PyTorch, and no engine.
BASE = [
    "numpy>=1.26",  # arrays: frames, maps, scores
    "opencv-python-headless>=4.8",  # reading images and video, the one resize, overlays
    "pillow>=10.3",  # reading pictures that OpenCV does not read, and finding damage in TIFF files that it passes over
    "simplejpeg>=1.8",  # reading JPEG with libjpeg-turbo's warnings as errors (OpenCV prints them and goes on)
    "tomli>=2.0; python_version < '3.11'",  # reads a line's configuration; part of Python from 3.11 on
]
CPU = ["onnxruntime>=1.18"]  # ONNX Runtime's CPU engine
OPENVINO = ["openvino>=2024.4"]  # the fastest engine for int8 on x86 CPUs
GPU = ["onnxruntime-gpu[cuda,cudnn]>=1.21"]  # ONNX Runtime on an NVIDIA GPU, with CUDA's libraries; instead of CPU
TENSORRT = [
    "tensorrt>=10.3",  # builds and runs plans; a Jetson has it already, and tensorrt-lean runs them too
    "cuda-python>=12.6",  # memory, streams and graphs of the GPU; PyCUDA works too, without graphs
]
TRAIN = [
    "torch>=2.4",  # teacher, student, training
    "torchvision>=0.19",  # the ResNets and their ImageNet weights
    "safetensors>=0.4.3",  # checkpoints without pickle
    "rich>=13.7",  # progress and tables
    "psutil>=5.9",  # free memory, which decides whether the teacher's features are kept
]
EXPORT = [
    *TRAIN,
    *CPU,  # proves the exported file against PyTorch
    "onnx>=1.19",  # builds and checks the fused graph
    "ml_dtypes>=0.5",  # bfloat16 for NumPy
    "py-cpuinfo>=9.0",  # the name of the CPU in the self-test's report
]
BENCH = [
    *CPU,
    "rich>=13.7",  # tables
    "scipy>=1.11",  # connected regions for PRO
    "onnx>=1.16",  # reads the graph whose multiply-adds and bytes are counted
    "matplotlib>=3.8",  # charts of the report
    "jinja2>=3.1",  # the report's page
    "psutil>=5.9",  # memory, temperature and load of the machine
    "py-cpuinfo>=9.0",  # the name and instruction sets of the CPU
    "nvidia-ml-py>=12.535",  # the name, clock and power of the GPU
    "msgspec>=0.18",  # result files as typed dataclasses
]
PAPER = [
    "scikit-learn>=1.4",  # t-SNE of Figure 3
]
RAY = [
    "ray>=2.30",  # the paper's trainings on a cluster
]
MQTT = ["paho-mqtt>=2.0"]  # verdicts to a broker, and triggers from it
MODBUS = ["pymodbus>=3.10"]  # verdicts into a PLC's registers
OPCUA = ["asyncua>=1.1"]  # verdicts into an OPC UA server
DASHBOARD = [
    "fastapi>=0.115",  # routes, validation and the OpenAPI document of the dashboard, its API and the HTTP trigger
    "pydantic>=2.7",  # the API's request and response models
    "uvicorn>=0.30",  # the HTTP server
    "prometheus_client>=0.20",  # /metrics
    "tomlkit>=0.13",  # changes the regions in a line's TOML file, and keeps its comments
]
SIGNING = ["cryptography>=42"]  # signs and verifies the heads of the journal's chain
VIDEO = ["av>=14.0"]  # video streams and files, with the decoder's marks of damaged frames
GPIO = ["gpiod>=2.1"]  # triggers by a light barrier's edge
DOCS = [
    "mkdocs-material>=9.6",  # the documentation as a site, which works without internet
    "mkdocstrings[python]>=0.29",  # the page of the Python interface, from the docstrings
]
DEV = [
    "pytest>=8.2",
    "scikit-learn>=1.4",  # another AUROC, which a test compares with ours
    "ruff>=0.9",
    "mypy>=1.11",
    "import-linter>=2.0",  # the contracts about which package may import which
    "pre-commit>=3.7",  # ruff and mypy before each commit
    "types-psutil>=5.9",
    "scipy-stubs>=1.14",
    "schemathesis>=4.0",  # fuzzes the dashboard's API by its OpenAPI document
    "websockets>=13",  # controls a headless Chromium
    "nbclient>=0.10",  # runs the notebook
    "ipykernel>=6.29",
    "axe-core-python>=0.1",  # finds obstacles for people with disabilities in the dashboard's pages
]

setup(
    name="stfpm-edge",
    version="0.2.0",
    description="Visual anomaly detection at the edge: train STFPM on good images, export one ONNX file, inspect.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[
        name
        for package, folder in PACKAGES.items()
        for name in [package, *(f"{package}.{child}" for child in find_packages(str(ROOT / folder)))]
    ],
    package_dir=PACKAGES,
    package_data={
        **{package: ["py.typed"] for package in PACKAGES},
        "stfpm_edge": ["py.typed", "weights/*.safetensors"],  # the teacher that ships, 5.6 MB
        "stfpm_runtime.line.journal.batch": ["*.json"],  # languages of the report
        "stfpm_runtime.line.web": ["static/*"],  # pages, hand-written: no build step
        "stfpm_bench.report": ["*.j2"],  # the template of the report's page
    },
    install_requires=BASE,
    extras_require={
        "train": TRAIN,
        "export": EXPORT,
        "cpu": CPU,
        "openvino": OPENVINO,
        "gpu": GPU,
        "tensorrt": TENSORRT,
        "bench": BENCH,
        "mqtt": MQTT,
        "modbus": MODBUS,
        "opcua": OPCUA,
        "gpio": GPIO,
        "signing": SIGNING,
        "video": VIDEO,
        "dashboard": DASHBOARD,
        "paper": [*TRAIN, *BENCH, *PAPER],
        "ray": RAY,
        "docs": DOCS,
        "dev": [
            *EXPORT,
            *BENCH,
            *PAPER,
            *RAY,
            *OPENVINO,
            *MQTT,
            *MODBUS,
            *OPCUA,
            *DASHBOARD,
            *SIGNING,
            *VIDEO,
            *DOCS,
            *DEV,
        ],
    },
    entry_points={
        "console_scripts": [
            "stfpm = stfpm_runtime.command:main",
            *(f"stfpm-{verb} = stfpm_runtime.command:script" for verb in VERBS),
        ]
    },
)

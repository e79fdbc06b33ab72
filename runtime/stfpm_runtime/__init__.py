"""What runs on the device: an exported model in, verdicts out. Imports neither PyTorch nor anything that needs it."""

from .detector import Detector, Timings, Verdict
from .engines import Engine, open_engine
from .errors import StfpmError
from .images import read_image
from .preprocessing import preprocess
from .spec import Spec

__all__ = [
    "Detector",
    "Engine",
    "Spec",
    "StfpmError",
    "Timings",
    "Verdict",
    "open_engine",
    "preprocess",
    "read_image",
]

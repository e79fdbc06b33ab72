"""The device's package: it runs an exported model and gives verdicts. It never imports PyTorch."""

from .artifact.spec import Spec
from .detector import Detector, Timings, Verdict
from .engines import Engine, open_engine
from .errors import StfpmError
from .imaging.images import read_image
from .imaging.preprocessing import preprocess

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

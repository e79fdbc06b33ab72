"""The method in PyTorch: teacher and student, loss, anomaly map, data, training."""

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .model import Stfpm
from .networks import Pyramid
from .options import TrainOptions
from .teacher import load_teacher
from .torch_engine import TorchEngine
from .train import train_student

__all__ = [
    "Checkpoint",
    "Pyramid",
    "Stfpm",
    "TorchEngine",
    "TrainOptions",
    "load_checkpoint",
    "load_teacher",
    "save_checkpoint",
    "train_student",
]

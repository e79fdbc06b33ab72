from dataclasses import dataclass
@dataclass(frozen=True)
class Roofline:
    x: int = 0

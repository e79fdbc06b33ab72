"""The paper's tables and figures: `python -m benchmarks.experiments.paper table1 --data MVTEC_ROOT`."""

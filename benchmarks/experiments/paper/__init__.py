"""The paper's tables and figures, each by one command: `python -m experiments.paper table1 --data MVTEC_ROOT`."""

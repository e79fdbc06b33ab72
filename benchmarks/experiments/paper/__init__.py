"""The paper's tables and figures, each by one command: `python -m stfpm_bench.paper table1 --data MVTEC_ROOT`."""

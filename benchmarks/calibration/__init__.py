"""Is the inference calibrated, and what does it find? Simulated and real experiments, beside other programs.

Start reading at ``settings`` (what is studied), then ``simulated`` and ``real`` (the data), ``ours`` and ``others``
(the programs), ``store`` (the results), ``measures`` and ``tables`` (what they say). ``python -m
benchmarks.calibration --help`` lists the options.
"""

"""The benchmark suite: the same prompts to every target through the one engine, and from the record to a decision.

Needs the extra `bench` (numpy, scipy, statsmodels, pyarrow); `weighbridge serve` imports none of it. `simulate` needs
the core alone.
"""

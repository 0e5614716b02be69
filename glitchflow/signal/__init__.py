"""Time series and Q-plots, without Ray and without Zarr.

In: sections of an experiment, and recorded files. Out: events (`types.py`) whose series are simulated (`simulation/`)
or recorded (`recorded/`), with channels derived from them (`derive.py`); whitened series (`whiten.py`,
`prediction.py`) and their Q-plots (`qtransform/`). Random numbers come from named streams (`streams.py`). Start with
`types.py`.
"""

"""The store: one Zarr v3 group per dataset, opened by `xarray.open_zarr`.

In: whole shards of per-event arrays, from tasks that write one each. Out: a `Dataset`, opened once, whose reads are
checked. Read `schema.py` first (what is in a store), then `writer.py` (how it is made), then `dataset.py`.
"""

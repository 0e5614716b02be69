"""A driver for test_factory.py: `generate` on a Ray cluster of three nodes, one of which loses its power.

Prints how many shards were missing when the node went. Usage: node_loss.py CONFIG.
"""

import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from glitchflow.config import load
from glitchflow.data.generate import generate
from glitchflow.data.store import dataset as store


def cut(cluster: Cluster, node, path: Path) -> None:
    """Kill a node's processes once the first shards are written, so that it is at work on others."""
    while not (path / ".done").exists() or len(list((path / ".done").glob("*.json"))) < 2:
        time.sleep(0.02)
    print("missing", len(store.missing_shards(store.open_store(path, complete=False))), flush=True)
    cluster.remove_node(node, allow_graceful=False)


def main(config: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    experiment = load(config, [f"cluster.address={cluster.address}"])
    cutter = threading.Thread(target=cut, args=(cluster, nodes[1], Path(experiment.dataset)), daemon=True)
    cutter.start()
    generate(experiment)
    cutter.join(timeout=10)
    ray.init(address=cluster.address)
    print("alive", sum(node["Alive"] for node in ray.nodes()), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])

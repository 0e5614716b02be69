"""Runs in a peer's environment, where there is nothing of ours: `python peers_bridge.py PEER GIVEN.npz MADE.npz`.

Arrays and numbers come in as a .npz file, and what the peer makes of them goes out as another. An error is the peer's
own: its last line says why the peer did not run.

Shapes: E event, C channel (the target first), N sample, S step.
"""

import sys

import numpy as np

CONTEXT = 1024  # samples before and after, 4 s of 512 Hz together, that an updating filter is fitted to


def franc(given):
    """Fits a filter to `train` (E, C, N) and applies it to `apply` (E', C, N), with each of `steps` (S,), of which 0
    is for a filter that has none; returns `said` (S, E', N), what it expects of the target."""
    import franc as peer

    kind, taps = str(given["kind"]), int(given["taps"])
    train, apply = (given[name].astype(np.float64) for name in ("train", "apply"))
    said = []
    for step in given["steps"]:
        settings = {"step_scale": float(step)} if step else {}
        settings |= {"order": 2} if kind == "PolynomialLMSFilter" else {}
        settings |= (
            {"context_pre": CONTEXT, "context_post": CONTEXT} if kind == "UpdatingWienerFilter" else {}
        )
        one = getattr(peer.filtering, kind)(apply.shape[1] - 1, taps, taps // 2, **settings)
        if kind != "UpdatingWienerFilter":  # which is fitted where it is applied
            one.condition_multi_sequence(train[:, 1:], train[:, 0])
        said.append(one.apply_multi_sequence(apply[:, 1:], apply[:, 0]))
    return {"said": np.array(said)}


PEERS = {"franc": franc}

if __name__ == "__main__":
    name, before, after = sys.argv[1:]
    with np.load(before) as found:
        np.savez(after, **PEERS[name](dict(found)))

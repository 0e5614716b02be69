"""How much of a batch a Q-transform works on at once."""

import torch

# Bytes, about: what fits a CPU's caches (of each thread), and what keeps a large GPU busy
PIECE = {"cpu": 12 * 2**20, "cuda": 2**30}
HELD = 6  # times of a piece that a transform holds at most: 2 to 3 as counted on a CPU, and what FFTs take besides


def piece(device: torch.device) -> int:
    """Returns the bytes to work on at once, on a GPU no more than fit the memory that this process may have of it.

    That is the whole, or what `torch.cuda.set_per_process_memory_fraction` left; what is free of it would depend on
    the others who use the GPU, and the last bit of an energy on how many events are worked on at once.
    """
    if device.type == "cpu":
        return PIECE["cpu"]
    _, whole = torch.cuda.mem_get_info(device)
    return min(PIECE["cuda"], int(whole * torch.cuda.get_per_process_memory_fraction(device)) // HELD)

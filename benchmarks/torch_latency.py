"""Times PyTorch eager for benchmarks/latency.py, in a process and an environment of its own.

PYTHON torch_latency.py WEIGHTS.npz BACKBONE    # reads lines "BATCH REPEATS", answers with seconds as JSON
"""

import json
import sys
import time

import numpy as np
import torch
import torch_networks


def score(network, x):
    """AGAD's score ||x − x̂||₂ of images (n, channels, height, width)."""
    return torch.linalg.vector_norm((x - network(x)).flatten(1), dim=1)


def fill(network, stored) -> None:
    """Weights and batch-norm statistics, each in the order of the layers."""
    count = sum(name.startswith("weight_") for name in stored)
    torch_networks.load(network, [stored[f"weight_{index}"] for index in range(count)])
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        norm.running_mean.copy_(torch.from_numpy(stored[f"mean_{index}"]))
        norm.running_var.copy_(torch.from_numpy(stored[f"variance_{index}"]))


def main(path: str, backbone: str) -> None:
    """Says the version, the parameters and the scores of the first images, then times what is asked."""
    torch.set_num_threads(1)
    network = torch_networks.GENERATORS[backbone]().eval()
    with np.load(path) as archive:
        stored = dict(archive)
    images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).contiguous()
    fill(network, stored)
    with torch.inference_mode():
        about = {
            "torch": torch.__version__,
            "parameters": torch_networks.parameter_count(network),
            "scores": score(network, images[:16]).tolist(),
        }
        print(json.dumps(about), flush=True)
        for line in sys.stdin:
            batch, repeats = map(int, line.split())
            x, wall, processor = images[:batch], [], []
            for _ in range(repeats):
                started = time.perf_counter(), time.process_time()
                score(network, x)
                wall.append(time.perf_counter() - started[0])
                processor.append(time.process_time() - started[1])
            print(json.dumps([min(wall), min(processor)]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

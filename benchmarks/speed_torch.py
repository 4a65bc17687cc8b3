"""PyTorch's half of `training_speed.py`: a process that makes the same networks and measures when asked."""

from __future__ import annotations

import os

import numpy as np
import torch
import torch._functorch.config
import torch_networks as networks
import torch_steps as steps
from speed_worker import serve
from torch import nn

# Compiled networks are differentiated twice, once for each loss, and must keep what they need for it.
torch._functorch.config.donated_buffer = False

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOSE = 1e-3  # largest relative difference of outputs and losses from ours; both round in float32


class Flipped(nn.Module):
    """Hands flipped images on: see `torch_networks`."""

    def forward(self, x):
        return x.flip(2, 3)


def built(kind: str) -> list[nn.Module]:
    """The networks of a step, in the order of `speed_ours.networks`."""
    torch.manual_seed(1)
    if kind == "aa_bigan":
        return [
            networks.encoder(),
            networks.generator(),
            networks.JointDiscriminator(),
            networks.ReconstructionDiscriminator(),
        ]
    return [networks.GENERATORS[kind](), networks.PatchDiscriminator()]


def on_device(value, layout: str):
    """A tensor or network where it is measured, images in the memory layout that is."""
    fmt = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    if isinstance(value, nn.Module):
        return value.to(DEVICE).to(memory_format=fmt)
    return value.to(DEVICE).contiguous(memory_format=fmt)


def images(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def make(what: str, **job):
    """See `speed_worker.serve`."""
    return {"step": make_step, "score": make_score, "proof": make_proof}[what](**job)


def waiting(function):
    """A call that ends when the device is done."""

    def call():
        result = function()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return result

    return call


def make_step(kind: str, batch: int, anomalies: int, form: str = "shared", mode: str = "eager"):
    """A training step.

    Args:
        kind, batch, anomalies: as ours.
        form: "shared" or, for aa_bigan, "public": see `torch_steps`.
        mode: "eager", "channels_last" (eager, in that memory layout) or "compile" (the same, compiled).
    """
    nets = [on_device(net, _layout(mode)) for net in built(kind)]
    said = {"parameters": [networks.parameter_count(net) for net in nets], "torch": torch.__version__}
    x = torch.rand(batch, 1, 32, 32)
    if kind == "aa_bigan":
        step = {"shared": steps.AABiGANStep, "public": steps.PublicOrder}[form](
            *nets, compiled=mode == "compile"
        )
        data = (x[: batch - anomalies], x[batch - anomalies :])
    else:
        step = steps.AGADStep(*nets, compiled=mode == "compile")
        y = torch.zeros(batch, device=DEVICE)
        y[batch - anomalies :] = 1
        data = (2 * x - 1, 1 - y, y)
    data = tuple(on_device(part, _layout(mode)) if part.ndim == 4 else part for part in data)
    return waiting(lambda: step(*data)["loss_generator"].item()), said


def make_score(kind: str, batch: int, mode: str = "eager"):
    """The score of a batch, in evaluation mode."""
    nets = [on_device(net.eval(), _layout(mode)) for net in built(kind)]
    if mode == "compile":
        nets = [torch.compile(net) for net in nets]
    score = steps.score_aa_bigan(*nets[:2]) if kind == "aa_bigan" else steps.score_agad(nets[0])
    x = on_device(torch.rand(batch, 1, 32, 32), _layout(mode))
    return waiting(lambda: score(x).cpu().numpy()), {}


def make_proof(kind: str, path: str):
    """Takes over our weights and compares outputs, and the losses of the first step.

    Raises:
        ValueError: it is not the same network, or not the same step.
    """
    ours = np.load(path)
    nets = built(kind)
    for index, net in enumerate(nets):
        names = sorted(name for name in ours.files if name.startswith(f"weights_{index}_"))
        networks.load(net, [ours[name] for name in names], flip=kind == "aa_bigan" and index == 0)
    x, y = images(ours["x"]), ours["y"]
    differences = {}
    if kind == "aa_bigan":
        nets[0] = nn.Sequential(Flipped(), nets[0])
    for net in nets:
        net.eval()
    with torch.no_grad():
        made = nets[0](x)
        if kind == "aa_bigan":
            code, made = made, nets[1](made)
            outputs = [code, made.permute(0, 2, 3, 1), nets[2](x, code), nets[3](x, made)]
        else:
            outputs = [made.permute(0, 2, 3, 1), nets[1](x)[0]]
    for index, output in enumerate(outputs):
        differences[f"output_{index}"] = _difference(output.numpy(), ours[f"output_{index}"])
    for net in nets:
        net.train()
    if kind == "aa_bigan":
        losses = steps.AABiGANStep(*nets)(x[y == 0], x[y == 1], torch.from_numpy(ours["z"]))
    else:
        anomaly = torch.from_numpy(y.astype(np.float32))
        losses = steps.AGADStep(*nets)(x, 1 - anomaly, anomaly)
    for name, value in losses.items():
        differences[name] = _difference(value.numpy(), ours[name])
    wrong = {name: value for name, value in differences.items() if not value <= CLOSE}
    if wrong:
        raise ValueError(f"not the same networks or step: relative differences {wrong}")
    return lambda: None, {"relative_differences": differences}


def _difference(mine, other) -> float:
    scale = max(float(np.abs(other).max()), 1e-6)
    return float(f"{float(np.abs(mine - other).max()) / scale:.2e}")


def _layout(mode: str) -> str:
    return "contiguous" if mode == "eager" else "channels_last"


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ["AGAD_TF_BENCH_THREADS"]))
    torch.set_num_interop_threads(1)
    serve(make)

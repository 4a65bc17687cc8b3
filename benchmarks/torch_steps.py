"""Training steps of both papers in PyTorch, as a user of PyTorch would write them; for comparison.

Every step differentiates no more than it needs (`torch.autograd.grad` with the variables of each loss), takes
gradients of both losses at the old weights from one forward pass, and keeps the moving average of weights
that our `compile()` keeps. `PublicOrder` alone follows the order of the AA-BiGAN authors' code.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

A, B, C = 1.0, 0.0, 0.75  # targets of AA-BiGAN: normal, generated, and what G and E want
WEIGHTS = {"adversarial": 1.0, "contextual": 50.0, "contextual_adversarial": 15.0, "latent": 5.0}
EPSILON = 0.1  # our default in the reciprocals of AGAD's equation (10)


class Averages:
    """Moving averages of parameters; batch-norm statistics are copied."""

    def __init__(self, *networks: nn.Module, decay: float = 0.99):
        self.raw = [p.detach() for network in networks for p in network.parameters()]
        self.average = [p.clone() for p in self.raw]
        self.decay = decay

    def update(self) -> None:
        torch._foreach_lerp_(self.average, self.raw, 1 - self.decay)


def adam(parameters, rate: float, betas) -> torch.optim.Adam:
    # Fused: the fastest form that PyTorch has.
    return torch.optim.Adam(parameters, rate, betas, fused=True)


def apply(optimizer, parameters, gradients, clip_norm: float | None = None) -> torch.Tensor:
    """One step with given gradients; their global norm before clipping."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)
    optimizer.step()
    return norm


class AGADStep:
    """Algorithm 1 of AGAD, with our defaults (epsilon, clipping, averages)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, compiled: bool = False):
        self.of_generator = list(generator.parameters())
        self.of_discriminator = list(discriminator.parameters())
        self.optimizer_g = adam(self.of_generator, 2e-4, (0.5, 0.999))
        self.optimizer_d = adam(self.of_discriminator, 2e-4, (0.5, 0.999))
        self.averages = Averages(generator, discriminator)
        self.generator = torch.compile(generator) if compiled else generator
        self.discriminator = torch.compile(discriminator) if compiled else discriminator

    def __call__(self, x, normal, anomaly) -> dict[str, torch.Tensor]:
        """One step on images (batch, channels, side, side); who is normal and who an anomaly, (batch,)."""
        reconstruction = self.generator(x)
        second = self.generator(reconstruction)
        logit, features = self.discriminator(x)
        logit_hat, features_hat = self.discriminator(reconstruction)

        def mean(values, member):
            return (values * member).sum() / member.sum()

        def cross_entropy(logits, target):
            return F.binary_cross_entropy_with_logits(
                logits, torch.full_like(logits, target), reduction="none"
            )

        contextual = (x - reconstruction).abs().mean((1, 2, 3))
        again = (reconstruction - second).abs().mean((1, 2, 3))  # minus the contextual adversarial loss
        latent = (features - features_hat).square().mean((1, 2, 3))
        fake = cross_entropy(logit_hat, 0.0)
        loss_n = (
            WEIGHTS["adversarial"] * mean(cross_entropy(logit_hat, 1.0), normal)
            + WEIGHTS["contextual"] * mean(contextual, normal)
            - WEIGHTS["contextual_adversarial"] * mean(again, normal)
            + WEIGHTS["latent"] * mean(latent, normal)
        )
        loss_a = (
            WEIGHTS["adversarial"] / (mean(fake, anomaly) + EPSILON)
            + WEIGHTS["contextual_adversarial"] / (mean(again, anomaly) + EPSILON)
            + WEIGHTS["latent"] / (mean(latent, anomaly) + EPSILON)
        )
        loss_g = loss_n + loss_a
        loss_d = (
            mean(fake, normal)
            + mean(cross_entropy(logit, 1.0), normal)
            + mean(cross_entropy(logit, 0.0), anomaly)
        )
        gradients_g = torch.autograd.grad(loss_g, self.of_generator, retain_graph=True)
        gradients_d = torch.autograd.grad(loss_d, self.of_discriminator)
        apply(self.optimizer_g, self.of_generator, gradients_g, 5.0)
        apply(self.optimizer_d, self.of_discriminator, gradients_d, 5.0)
        self.averages.update()
        return {"loss_generator": loss_g.detach(), "loss_discriminator": loss_d.detach()}


class AABiGANStep:
    """Algorithm 1 of AA-BiGAN's supplement: one forward pass shared by both updates."""

    def __init__(self, encoder, generator, joint, pair, compiled: bool = False):
        self.of_generator = [*generator.parameters(), *encoder.parameters()]
        self.of_discriminator = [*joint.parameters(), *pair.parameters()]
        self.optimizer_g = adam(self.of_generator, 1e-4, (0.5, 0.9))
        self.optimizer_d = adam(self.of_discriminator, 2.5e-5, (0.5, 0.9))
        self.averages = Averages(encoder, generator)
        if compiled:
            encoder, generator, joint = (torch.compile(net) for net in (encoder, generator, joint))
            pair.first, pair.second, pair.head = (
                torch.compile(net) for net in (pair.first, pair.second, pair.head)
            )
        self.encoder, self.generator, self.joint, self.pair = encoder, generator, joint, pair

    def __call__(self, normal, anomaly, z=None) -> dict[str, torch.Tensor]:
        """One step on normal images and anomalies; z (any number, latent), drawn for all of them if None."""
        x = torch.cat([normal, anomaly])
        code = self.encoder(x)
        z = torch.randn_like(code) if z is None else z
        count = len(normal)
        made = self.generator(torch.cat([code[:count], z]))
        reconstruction, generated = made[:count], made[count:]
        # Each group passes alone, so that each has batch moments of its own.
        real = self.joint(normal, code[:count])
        odd = self.joint(anomaly, code[count:])
        drawn = self.joint(generated, z)
        first = self.pair.first(normal)
        same = self.pair.judge(first, self.pair.second(normal))
        same_odd = self.pair.judge(self.pair.first(anomaly), self.pair.second(anomaly))
        rebuilt = self.pair.judge(first, self.pair.second(reconstruction))

        def to(output, target):
            return (output - target).square().mean()

        between = (A + B) / 2
        loss_d = (
            to(real, A)
            + to(odd, between)
            + to(drawn, B)
            + to(same, A)
            + to(same_odd, between)
            + to(rebuilt, B)
        )
        loss_g = to(real, C) + to(odd, C) + to(drawn, C) + to(rebuilt, C)
        gradients_d = torch.autograd.grad(loss_d, self.of_discriminator, retain_graph=True)
        gradients_g = torch.autograd.grad(loss_g, self.of_generator)
        apply(self.optimizer_d, self.of_discriminator, gradients_d)
        apply(self.optimizer_g, self.of_generator, gradients_g)
        self.averages.update()
        return {"loss_generator": loss_g.detach(), "loss_discriminator": loss_d.detach()}


class PublicOrder:
    """The order of the AA-BiGAN authors' code: D, then G against the new D, then E through the new G.

    Three backward passes through everything, `backward()` without a choice of variables; z is drawn for the
    normals alone. What that code evaluates for its progress line alone is left out here.
    """

    def __init__(self, encoder, generator, joint, pair, compiled: bool = False):
        self.networks = [encoder, generator, joint, pair]

        def optimizer(rate, *networks):
            # Steps on `.data`, as old PyTorch did: E's gradient then passes the changed G without complaint.
            views = [(p, p.data) for network in networks for p in network.parameters()]
            return views, adam([view for _, view in views], rate, (0.5, 0.9))

        self.optimizers = {
            "d": optimizer(2.5e-5, joint, pair),
            "g": optimizer(1e-4, generator),
            "e": optimizer(1e-4, encoder),
        }
        if compiled:
            encoder, generator, joint, pair = (
                torch.compile(net) for net in (encoder, generator, joint, pair)
            )
        self.encoder, self.generator, self.joint, self.pair = encoder, generator, joint, pair

    def __call__(self, normal, anomaly, z=None) -> dict[str, torch.Tensor]:
        count = len(normal)
        code = self.encoder(torch.cat([normal, anomaly]))
        of_normal, of_anomaly = code[:count], code[count:]
        z = torch.randn_like(of_normal) if z is None else z
        made = self.generator(torch.cat([of_normal, z]))
        reconstruction, generated = made[:count], made[count:]

        def to(output, target):
            return (output - target).square().mean()

        loss_d = (
            to(self.joint(normal, of_normal), A)
            + to(self.joint(generated, z), B)
            + to(self.joint(anomaly, of_anomaly), (A + B) / 2)
            + to(self.pair(normal, normal), A)
            + to(self.pair(normal, reconstruction), B)
            + to(self.pair(anomaly, anomaly), (A + B) / 2)
        )
        self._step("d", loss_d, retain_graph=True)
        cycle = (
            to(self.pair(normal, normal), C)
            + to(self.pair(normal, reconstruction), C)
            + to(self.pair(anomaly, anomaly), C)
        ) / 3
        loss_g = to(self.joint(generated, z), C) + cycle
        self._step("g", loss_g, retain_graph=True)
        loss_e = to(self.joint(normal, of_normal), C) + to(self.joint(anomaly, of_anomaly), C) + cycle
        self._step("e", loss_e)
        return {"loss_generator": loss_g.detach(), "loss_discriminator": loss_d.detach()}

    def _step(self, name: str, loss, retain_graph: bool = False) -> None:
        views, optimizer = self.optimizers[name]
        for parameter, _ in views:
            parameter.grad = None
        loss.backward(retain_graph=retain_graph)
        for parameter, view in views:
            view.grad = parameter.grad
        optimizer.step()


def score_agad(generator: nn.Module):
    """‖x − G(x)‖₂ of each image."""

    @torch.inference_mode()
    def score(x):
        return (x - generator(x)).square().sum((1, 2, 3)).sqrt()

    return score


def score_aa_bigan(encoder: nn.Module, generator: nn.Module):
    """‖x − G(E(x))‖² of each image."""

    @torch.inference_mode()
    def score(x):
        return (x - generator(encoder(x))).square().sum((1, 2, 3))

    return score

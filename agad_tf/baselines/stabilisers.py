"""The settings that every baseline's `compile` ends with: what AGAD and AA-BiGAN train more steadily with."""

import functools
import inspect


def stabilisers(
    clip_norm: float | None = None,
    average_epochs: float = 0.0,
    reestimate_batch_norm: bool = False,
    guard: bool = True,
    jit_compile: bool | str = "auto",
    run_eagerly: bool = False,
):
    """What `with_stabilisers` adds to a `compile`: this signature. Off as in the papers, but for the guard.

    Args:
        clip_norm, average_epochs, reestimate_batch_norm, jit_compile, run_eagerly: as in
            `agad_tf.AABiGAN.compile`.
        guard: after an epoch with a loss that is not finite, back to the last good weights once.
    """


def with_stabilisers(compile_method):
    """A `compile` whose `**stabilisers` are those above: their names and defaults join its signature."""
    signature = inspect.signature(compile_method)
    own = [parameter for name, parameter in signature.parameters.items() if name != "stabilisers"]
    signature = signature.replace(parameters=[*own, *inspect.signature(stabilisers).parameters.values()])

    @functools.wraps(compile_method)
    def compile(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        return compile_method(**bound.arguments)

    compile.__signature__ = signature
    return compile

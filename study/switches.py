"""The switches of the stability study: what is changed of `AGAD`, one at a time."""

UNSTEADY = {
    "learning_rate": 2e-3,
    "discriminator_sees_anomaly_reconstructions": True,
    "reciprocal_epsilon": 0.0,
    "clip_norm": None,
    "average_epochs": 0.0,
    "reestimate_batch_norm": False,
    "guard": False,
}

SWITCHES: dict[str, dict] = {
    "default": {},
    "literal": {"literal": True},
    "reciprocal_epsilon=1e-6": {"reciprocal_epsilon": 1e-6},
    "reciprocal_epsilon=0.01": {"reciprocal_epsilon": 1e-2},
    "reciprocal_epsilon=0.1": {"reciprocal_epsilon": 0.1},
    "reciprocal_epsilon=1": {"reciprocal_epsilon": 1.0},
    "clip_norm=None": {"clip_norm": None},
    "clip_norm=1": {"clip_norm": 1.0},
    "clip_norm=20": {"clip_norm": 20.0},
    "no epsilon, no clipping": {"reciprocal_epsilon": 1e-6, "clip_norm": None},
    "D sees x̂ of anomalies": {"discriminator_sees_anomaly_reconstructions": True},
    "latent_distance=sum_squared": {"latent_distance": "sum_squared"},
    "latent_distance=norm": {"latent_distance": "norm"},
    "anomaly_contextual_pair=input": {"anomaly_contextual_pair": "input"},
    "group_weighting=share": {"group_weighting": "share"},
    "update_order=discriminator_first": {"update_order": "discriminator_first"},
    "bn_strategy=adv_prop": {"bn_strategy": "adv_prop"},
    "bn_strategy=freeze": {"bn_strategy": "freeze"},
    "average_epochs=0": {"average_epochs": 0.0},
    "average_epochs=1": {"average_epochs": 1.0},
    "average_epochs=4": {"average_epochs": 4.0},
    "reestimate_batch_norm=False": {"reestimate_batch_norm": False},
    "learning_rate=1e-4": {"learning_rate": 1e-4},
    "learning_rate=5e-4": {"learning_rate": 5e-4},
    "beta_1=0.9": {"beta_1": 0.9},
    "contextual_adversarial_weight=0": {"contextual_adversarial_weight": 0.0},
    "discriminator_reset_threshold=0": {"discriminator_reset_threshold": 0.0},
    # Provoked: ten times the learning rate, and D taught what the paper leaves out, without stabilisers.
    "learning_rate=2e-3": {"learning_rate": 2e-3},
    "literal, learning_rate=2e-3": {"literal": True, "learning_rate": 2e-3},
    "D sees x̂, no stabiliser, learning_rate=2e-3": UNSTEADY,
    "D sees x̂, ε 0.1, learning_rate=2e-3": UNSTEADY | {"reciprocal_epsilon": 0.1},
    "D sees x̂, clipped at 5, learning_rate=2e-3": UNSTEADY | {"clip_norm": 5.0},
    "D sees x̂, ε 0.1, clipped at 5, learning_rate=2e-3": UNSTEADY
    | {"reciprocal_epsilon": 0.1, "clip_norm": 5.0},
}
"""Name to the settings that differ from the defaults."""

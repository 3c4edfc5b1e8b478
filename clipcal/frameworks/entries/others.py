"""A threshold -> the arguments of a reinforcement learner, or of an optimizer outside of torch's.

Run against stable-baselines3 2.9, keras 3.15 and optax 0.2.8.
"""

from __future__ import annotations

from clipcal.frameworks.record import AGAIN, Framework, total_norm

STABLE_BASELINES3 = Framework(
    title="Stable-Baselines3 PPO, A2C and DQN",
    text=total_norm("""\
# PPO, A2C and DQN take max_grad_norm; left out, they clip at {default}, {default} and 10. SAC, TD3 and DDPG do not clip at all.
# A saved model keeps its own: PPO.load(path, max_grad_norm={number}).
from stable_baselines3 import PPO

model = PPO("MlpPolicy", env, max_grad_norm={number})  # beside your own arguments"""),
    default=0.5,
    instead=f"{AGAIN}; Stable-Baselines3 clips inside `train()`, by the total L2 norm only",
    aliases=("sb3", "stablebaselines3"),
)


def _optimizer(key: str, why: str) -> str:
    return f"""\
import keras

optimizer = keras.optimizers.Adam(  # or your own, with its arguments; inside a LossScaleOptimizer, not on it
    {key}={{number}},  # {why}
)"""


KERAS = Framework(
    title="Keras 3 optimizer",
    text={
        "norm": _optimizer("global_clipnorm", "the total norm; clipnorm would clip every variable by itself"),
        "value": _optimizer("clipvalue", "every gradient element"),
        "per_tensor": _optimizer("clipnorm", "every variable by its own norm; global_clipnorm would be the total"),
    },
    instead=f"{AGAIN}, or train with the torch backend and a loop of your own around the `pytorch` snippet",
)


def _chained(clip: str) -> str:
    return f"""\
import optax

# Around the optimizer that you have. Clip first: gradients, not updates. optax.MultiSteps goes around the chain; under
# pmap or shard_map, average the gradients before.
optimizer = optax.chain(optax.{clip}, optimizer)"""


OPTAX = Framework(
    title="optax chain",
    text={
        "norm": _chained("clip_by_global_norm(max_norm={number})"),
        "value": _chained("clip(max_delta={number})"),
        "per_tensor": """\
import jax.numpy as jnp
import optax


# Each tensor by its own norm. optax.clip_by_block_rms is something else: the norm over the root of the tensor's size.
def clip_tensor(g, _, max_norm={number}):
    return g * (max_norm / jnp.maximum(jnp.linalg.norm(g.ravel()), max_norm))


optimizer = optax.chain(optax.stateless_with_tree_map(clip_tensor), optimizer)  # clip first: gradients, not updates""",
    },
    instead=f"{AGAIN}; optax clips by L2 norms only",
    aliases=("jax", "flax"),
)

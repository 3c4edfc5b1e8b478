"""A threshold -> the arguments of a reinforcement learner, or of an optimizer outside of torch's.

Run against stable-baselines3 2.9, keras 3.15 and optax 0.2.8.
"""

from __future__ import annotations

from clipcal.frameworks.snippets.entry import AGAIN, Snippet, Threshold
from clipcal.recommendation.answer import METHODS


def _stable_baselines3(threshold: Threshold) -> str:
    return f"""\
# PPO, A2C and DQN take max_grad_norm; left out, they clip at 0.5, 0.5 and 10. SAC, TD3 and DDPG do not clip at all.
# A saved model keeps its own: PPO.load(path, max_grad_norm={threshold.number}).
from stable_baselines3 import PPO

model = PPO("MlpPolicy", env, max_grad_norm={threshold.number})  # beside your own arguments"""


STABLE_BASELINES3 = Snippet(
    title="Stable-Baselines3 PPO, A2C and DQN",
    language="python",
    render=_stable_baselines3,
    instead=f"{AGAIN}; Stable-Baselines3 clips inside `train()`, by the total L2 norm only",
    aliases=("sb3", "stablebaselines3"),
)


def _keras(threshold: Threshold) -> str:
    key, why = {
        "norm": ("global_clipnorm", "the total norm; clipnorm would clip every variable by itself"),
        "value": ("clipvalue", "every gradient element"),
        "per_tensor": ("clipnorm", "every variable by its own norm; global_clipnorm would be the total"),
    }[threshold.method]
    return f"""\
import keras

optimizer = keras.optimizers.Adam(  # or your own, with its arguments; inside a LossScaleOptimizer, not on it
    {key}={threshold.number},  # {why}
)"""


KERAS = Snippet(
    title="Keras 3 optimizer",
    language="python",
    render=_keras,
    instead=f"{AGAIN}, or train with the torch backend and a loop of your own around the `pytorch` snippet",
    methods=METHODS,
)


def _optax(threshold: Threshold) -> str:
    if threshold.method == "per_tensor":
        return f"""\
import jax.numpy as jnp
import optax


# Each tensor by its own norm. optax.clip_by_block_rms is something else: the norm over the root of the tensor's size.
def clip_tensor(g, _, max_norm={threshold.number}):
    return g * (max_norm / jnp.maximum(jnp.linalg.norm(g.ravel()), max_norm))


optimizer = optax.chain(optax.stateless_with_tree_map(clip_tensor), optimizer)  # clip first: gradients, not updates"""
    if threshold.method == "value":
        clip = f"optax.clip(max_delta={threshold.number})"
    else:
        clip = f"optax.clip_by_global_norm(max_norm={threshold.number})"
    return f"""\
import optax

# Around the optimizer that you have. Clip first: gradients, not updates. optax.MultiSteps goes around the chain; under
# pmap or shard_map, average the gradients before.
optimizer = optax.chain({clip}, optimizer)"""


OPTAX = Snippet(
    title="optax chain",
    language="python",
    render=_optax,
    instead=f"{AGAIN}; optax clips by L2 norms only",
    aliases=("jax", "flax"),
    methods=METHODS,
)
